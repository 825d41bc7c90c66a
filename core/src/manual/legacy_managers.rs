//! Coming from the legacy managers: what replaces each class and each of its operations.
//!
//! There were seven managers of connections, and some more beside them. Here is one: a [`Hub`], which an integrator holds. A socket is a
//! [`Session`] of it, from its first byte to its close; who somebody is comes from a verified token and from nowhere else, so that no
//! operation takes a user's word for it. An agent's work is a [`Run`], whose events have one order that every device of the user sees.
//!
//! ```
//! # use std::sync::Arc;
//! # use trunkline_core::auth::{ClaimRules, Hs256};
//! # use trunkline_core::hub::{Hub, HubConfig, RunOptions};
//! # use trunkline_core::id::{Entropy, ThreadId, UserId};
//! # use trunkline_core::protocol::Receipt;
//! # use trunkline_core::time::{Clock, Now};
//! # struct Fixed;
//! # impl Clock for Fixed { fn now(&self) -> Now { Now::default() } }
//! # impl Entropy for Fixed { fn fill(&self, out: &mut [u8]) { out.fill(7) } }
//! # let verifier = Arc::new(Hs256::new(b"a secret of at least thirty-two bytes", ClaimRules::default())?);
//! # let (hub, _keeper) = Hub::new(HubConfig::default(), verifier, Arc::new(Fixed), Arc::new(Fixed))?;
//! let ann = UserId::new(None, "ann")?;
//! // emit_critical_event(user, type, data), send_agent_event, the fourteen emit_* and notify_*:
//! let run = hub.start_run(&ann, ThreadId::new("t1")?, RunOptions::named("triage"))?;
//! run.thinking("Looking at the bill.")?;
//! run.tool("lookup", &"bill 7")?.completed(&"paid")?;
//! run.completed(Some("It is paid.".into()))?;
//! // send_to_user(user, message), whether or not somebody is there; the receipt says which:
//! assert_eq!(hub.publish(&ann, None, "invoice_paid", &7)?, Receipt::Stored);
//! // get_user_connections(user), is_user_connected(user):
//! assert!(hub.devices(&ann).is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Clients need no change to begin with: those that offer the subprotocol `jwt-auth` are served in their own frames, see
//! [`protocol::legacy`](crate::protocol::legacy) and `core/LEGACY.md`.
//!
//! What each of the seven was for, working here, is shown by a test of its name in `core/src/hub/tests/seven_managers.rs`:
//! `isolated`, `factory`, `emergency`, `degraded`, `unified`, `adapter` and `connection`.
//!
//! # The classes and their operations
//!
//! "None" says that an operation has no successor, and why.
//!
//! ## IsolatedWebSocketManager
//!
//! Isolation is the shape of the data: all about a user hangs off that user, and a frame cannot name another. Test `isolated`.
//!
//! | operation | here |
//! |---|---|
//! | `add_connection` | [`Hub::session`] for the socket; it attaches to the user of its token by itself |
//! | `remove_connection` | [`Session::close`], or dropping the [`Session`]: as often as one likes |
//! | `get_connection`, `get_user_connections`, `is_connection_active` | [`Hub::devices`] |
//! | `send_to_user` | [`Hub::publish`]: never blocks on a socket, and [`Receipt`] says whether somebody was there |
//! | `emit_critical_event` | the methods of [`Run`], from [`Hub::start_run`] on |
//! | `get_connection_id_by_websocket` | None: the task of a socket owns its [`Session`], and nobody else has the socket |
//! | `update_connection_thread` | [`Hello::threads`], or a topic by [`ClientFrame::Subscribe`] |
//! | `get_connection_health` | [`Hub::devices`]: [`DeviceStatus::behind`] is how far each is behind; a dead one is closed by its heartbeat |
//! | `send_to_thread` | [`Hub::publish`] with the thread: devices that watch it get it |
//! | `cleanup_all_connections` | [`Hub::revoke`] with [`RevokeTarget::All`] for a user, [`Hub::begin_shutdown`] for all |
//! | `get_manager_stats` | [`Hub::user_status`] and [`Hub::counts`] |
//!
//! ## ConnectionLifecycleManager
//!
//! | operation | here |
//! |---|---|
//! | `register_connection` | [`Hub::session`] |
//! | `health_check_connection` | [`Limits::heartbeat_interval`] and [`Limits::heartbeat_timeout`]: WebSocket pings, always on |
//! | `auto_cleanup_expired`, `force_cleanup_all` | the [`Housekeeper`], and [`Limits::idle_deadline`] for what is really idle |
//!
//! ## WebSocketManagerFactory
//!
//! There is nothing to make: a [`Hub`] is made once. Its caps hold under one lock. Test `factory`.
//!
//! | operation | here |
//! |---|---|
//! | `create_manager`, `get_manager`, `get_or_create`, `create_websocket_manager`, `get_websocket_manager` | [`Hub::new`], once; a clone is the same hub |
//! | `cleanup_manager` | the [`Housekeeper`]: a user's state goes [`Limits::log_retention`] after the last device and the last run |
//! | `enforce_resource_limits` | [`Limits::connections_per_user`] and [`Limits::at_capacity`], at every attach |
//! | `force_cleanup_user_managers` | [`Hub::revoke`] |
//! | `force_cleanup_all_expired` | the [`Housekeeper`] |
//! | `get_factory_stats`, `get_factory_status` | [`Hub::counts`] |
//! | `get_user_manager_count` | [`Hub::devices`] |
//! | `shutdown` | [`Hub::begin_shutdown`] and [`Hub::poll_shutdown`] |
//!
//! ## EmergencyWebSocketManager
//!
//! It was another object, made when the first one failed. Here it is a level of the one manager, [`ServiceLevel::Emergency`]: whoever
//! was here stays and comes back, critical events arrive, and nothing is dropped without a word. Test `emergency`.
//!
//! | operation | here |
//! |---|---|
//! | `add_connection`, `connect_user` | [`Hub::session`]: at this level it lets in who continues, and closes others with 1013 |
//! | `remove_connection`, `disconnect_user` | [`Session::close`] |
//! | `get_connection`, `get_user_connections`, `is_connection_active` | [`Hub::devices`] |
//! | `send_to_user`, `send_message` | [`Hub::publish`], to every device; there is no stub that only logs |
//! | `emit_critical_event` | the methods of [`Run`] |
//! | `cleanup_all_connections` | [`Hub::begin_shutdown`] |
//!
//! ## DegradedWebSocketManager
//!
//! It put a notice in the place of each message. [`ServiceLevel::Degraded`] is said once per change, beside the messages. Test `degraded`.
//!
//! | operation | here |
//! |---|---|
//! | `degraded_service` | [`Hub::report`] for a dependency that is not well, [`Hub::set_level`] for an order; clients get [`ServerFrame::ServiceLevel`] |
//! | `send_to_user` | [`Hub::publish`], whose payload stays what it is |
//! | `emit_critical_event` | the methods of [`Run`] |
//!
//! ## UnifiedWebSocketManager
//!
//! A user's log is the queue: what comes while nobody is there is replayed to whoever comes back. Test `unified`.
//!
//! | operation | here |
//! |---|---|
//! | `add_connection`, `add_connection_by_user`, `connect_user`, `handle_connection`, `register_connection` | [`Hub::session`] |
//! | `remove_connection`, `disconnect_user`, `handle_disconnection`, `unregister_connection` | [`Session::close`], or dropping it |
//! | `clear_all_connections` | [`Hub::begin_shutdown`] |
//! | `get_connection`, `get_user_connections`, `find_connection`, `find_user_connection`, `get_connection_info`, `get_connections_for_user` | [`Hub::devices`] |
//! | `wait_for_connection` | None: nobody needs to wait. The log takes an event at any time, and the device gets it after its welcome |
//! | `send_to_user`, `send_to_user_with_wait` | [`Hub::publish`] |
//! | `send_to_thread` | [`Hub::publish`] with the thread, which is no user's id |
//! | `emit_critical_event` | the methods of [`Run`]; an error is of the caller, not of a socket |
//! | `broadcast`, `broadcast_message` | [`Hub::publish_topic`] |
//! | `broadcast_to_user` | [`Hub::publish`], which is for all devices of its user |
//! | `connect_to_job`, `disconnect_from_job` | [`ClientFrame::Subscribe`] and [`ClientFrame::Unsubscribe`] of a topic: rooms had made-up users |
//! | `handle_message`, `route_message` | [`Hub::requests`] |
//! | `attempt_message_recovery`, `process_recovery_queue` | [`Hello::resume`]: a device says where it stands, and gets what it missed, once |
//! | `get_error_statistics` | [`Receipt`] and the errors of each operation: nothing fails in secret |
//! | `cleanup_error_data` | [`Limits::log_retention`] |
//! | `start_monitored_background_task`, `stop_background_task`, `get_background_task_status`, `health_check_background_tasks` | None: tasks are the runtime's, and not about connections |
//! | `shutdown_background_monitoring`, `enable_background_monitoring`, `restart_background_monitoring`, `get_monitoring_health_status` | None: the [`Housekeeper`] is one task, and cannot be off while the server runs |
//! | `add_event_listener`, `remove_event_listener` | None: nothing is called back under a lock. [`Hub::requests`] and [`Hub::poll_level`] are awaited |
//!
//! ## WebSocketManagerAdapter
//!
//! The old API in front of the new one. Test `adapter`.
//!
//! | operation | here |
//! |---|---|
//! | `connect_user` | [`Hub::session`] |
//! | `disconnect_user` | [`Session::close`], [`Hub::revoke`] with [`RevokeTarget::Session`] |
//! | `get_user_connections` | [`Hub::devices`] |
//! | `send_to_user` | [`Hub::publish`] |
//! | `send_to_connection` | the reply to what the connection asked, [`Command::reply`]; an event is for all devices of its user, which show the same |
//! | `broadcast_to_all` | [`Hub::publish_topic`]; `exclude_users` are those who do not follow the topic, or whose token does not grant it |
//! | `get_stats`, `get_adapter_metrics` | [`Hub::counts`] |
//!
//! ## WebSocketConnectionManager
//!
//! Also called `ConnectionManager`: an alias of the unified manager, with the names that tests asked for. Test `connection`.
//!
//! | operation | here |
//! |---|---|
//! | `connect`, `add_connection`, `handle_connection` | [`Hub::session`] |
//! | `disconnect`, `remove_connection`, `handle_disconnection` | [`Session::close`], or dropping it |
//! | `send_message` | [`Hub::publish`] |
//! | `broadcast_message` | [`Hub::publish_topic`] |
//! | `handle_message` | [`Hub::requests`] |
//! | `get_connection_count` | [`Hub::counts`] |
//! | `is_user_connected` | [`Hub::devices`] |
//! | `send_agent_event` | the methods of [`Run`] |
//!
//! ## WebSocketManager
//!
//! The first singleton, and its variant with a time to live.
//!
//! | operation | here |
//! |---|---|
//! | `check_connection_health`, `enhanced_ping_connection`, `record_pong_received` | [`Limits::heartbeat_interval`], [`Limits::heartbeat_timeout`] |
//! | `shutdown` | [`Hub::begin_shutdown`], which closes with 1012 |
//! | `get_stats` | [`Hub::counts`] |
//!
//! ## Beside the managers
//!
//! | operation | here |
//! |---|---|
//! | `check_connection_allowed`, `is_call_allowed` | [`Hub::session_from`] |
//! | `check_rate_limit` | [`Limits::handshakes_per_second`], [`Limits::messages_per_second`] |
//! | `buffer_message`, `enqueue_message`, `deliver_buffered_messages`, `flush_queue` | the log of the user: [`Limits::log_entries`] |
//! | `coordinate_handshake`, `mark_handshake_completed` | [`PhaseName`]: one machine orders a socket's way, and no sleep is in it |
//! | `mark_event_confirmed` | [`ClientFrame::Ack`] |
//! | `record_activity`, `cleanup_stale_connections` | [`Limits::idle_deadline`], [`Limits::eviction_idle`] |
//! | `force_token_refresh`, `register_connection_token`, `get_current_token` | [`ClientFrame::Refresh`]: a token is verified, and not kept |
//! | `set_emergency_level` | [`Hub::set_level`] |
//! | `emit_event` | the methods of [`Run`], [`Hub::publish`] |
//! | `emit_event_batch` | None: events are batched where they are written, and text is merged for who lags |
//!
//! # Frames
//!
//! `core/LEGACY.md` has each with an example.
//!
//! | legacy | native |
//! |---|---|
//! | `connection_established` | [`ServerFrame::Welcome`] |
//! | `{type, payload}` of `chat`, `user_message`, `start_agent`, `agent_request` and their aliases | [`ClientFrame::UserMessage`] |
//! | `ping`, `pong` | [`ClientFrame::Ping`], [`ServerFrame::Pong`] |
//! | `heartbeat`, `heartbeat_ack` | None: WebSocket pings |
//! | the five events, flat | [`ServerFrame::Event`] |
//! | `agent_error`, `agent_failed` | [`EventBody::AgentFailed`] |
//! | `stream_chunk`, `agent_response_chunk` | [`EventBody::AgentDelta`], [`ServerFrame::Deltas`] |
//! | `ack` | [`ServerFrame::Reply`] |
//! | `error_message`, `connection_error`, `system_error` | [`ServerFrame::Error`], or a [`ServerFrame::Reply`] with the error |
//! | `service_degradation`, `service_recovery`, `degraded_service` | [`ServerFrame::ServiceLevel`] |
//! | `system_shutdown` | [`ServerFrame::GoingAway`] |
//! | `event_batch` | [`ServerFrame::Deltas`] |
//!
//! # Close codes
//!
//! | legacy | for | here |
//! |---|---|---|
//! | 1000 | evictions | [`CloseReason::Evicted`], [`CloseReason::Superseded`], [`CloseReason::TooManyConnections`] |
//! | 1000 | stale connections | [`CloseReason::HeartbeatTimeout`], [`CloseReason::IdleTimeout`] |
//! | 1001 | shutdown | [`CloseReason::Restart`] |
//! | 1006 | a failed check | never sent: RFC 6455 section 7.4.1 |
//! | 1008 | authentication | [`CloseReason::BadCredentials`], [`CloseReason::TokenExpired`], [`CloseReason::TokenRevoked`]; HTTP 403 for an origin |
//! | 1011 | no manager | [`CloseReason::Internal`]; nothing that makes managers can fail any more |
//! | 1013 | a rate | [`CloseReason::RateLimited`]; [`CloseReason::TryAgainLater`] where there is no room |
//!
//! # Numbers
//!
//! The legacy numbers contradicted each other; each has one name now, and [`Limits`] documents its default.
//!
//! | legacy | here |
//! |---|---|
//! | 3, 5, 10 or 20 connections or managers of a user | [`Limits::connections_per_user`] |
//! | 100 or 1,000 in all | [`Limits::connections`] |
//! | 8,192 bytes of a message, ignored beyond | [`Limits::message_bytes`], closed with 1009 beyond |
//! | 32 KiB of a message that waits | [`Limits::event_bytes`] |
//! | 50, 200 or 1,000 messages that wait, or any number | [`Limits::log_entries`], [`Limits::log_bytes`], [`Limits::total_log_bytes`] |
//! | 120 or 300 s of their age | [`Limits::log_retention`] |
//! | 30 messages a minute | [`Limits::messages_per_second`], [`Limits::message_burst`] |
//! | 10 connects a minute of a user | [`Limits::handshakes_per_second`] and [`Limits::connections_per_address`] |
//! | pings after 20 to 45 s, and 5 to 90 s of patience | [`Limits::heartbeat_interval`], [`Limits::heartbeat_timeout`] |
//! | 2 or 5 s for a send | [`Limits::write_stall`]: a slow reader costs nobody else anything |
//! | 120, 300 or 1,800 s idle | [`Limits::idle_deadline`], [`Limits::eviction_idle`] |
//! | 15 s for the handshake | [`Limits::handshake_deadline`], [`Limits::hello_deadline`] |
//! | 10 s for a close | [`Limits::close_deadline`] |
//! | 300 s for a ticket | [`Limits::ticket_life`] |
//! | breakers of 3 to 10 failures | [`Limits::level_rise_after`], [`Limits::level_fall_after`]: levels with dwell |

#[cfg(doc)]
use crate::connection::PhaseName;
#[cfg(doc)]
use crate::error::CloseReason;
#[cfg(doc)]
use crate::hub::{Command, DeviceStatus, Housekeeper, Hub, Run, Session};
#[cfg(doc)]
use crate::level::ServiceLevel;
#[cfg(doc)]
use crate::limits::Limits;
#[cfg(doc)]
use crate::protocol::{ClientFrame, EventBody, Hello, Receipt, RevokeTarget, ServerFrame};
