//! What does not compile: identifiers cannot be mixed, and no text is one before it is parsed.
//!
//! Each example that must fail has a twin before it that differs in one place and compiles, so that it fails for that
//! place alone. A nightly compiler compares the codes, too.
//!
//! A user is no conversation:
//!
//! ```
//! use trunkline_core::hub::{Hub, RunOptions};
//! use trunkline_core::id::{ThreadId, UserId};
//! fn start(hub: &Hub, user: &UserId, thread: ThreadId) {
//!     drop(hub.start_run(user, thread, RunOptions::named("agent")));
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::hub::{Hub, RunOptions};
//! use trunkline_core::id::{ThreadId, UserId};
//! fn start(hub: &Hub, user: &UserId, thread: ThreadId) {
//!     drop(hub.start_run(&thread, user.clone(), RunOptions::named("agent")));
//! }
//! ```
//!
//! A topic is nobody's stream:
//!
//! ```
//! use trunkline_core::hub::Hub;
//! use trunkline_core::id::{TopicId, UserId};
//! fn publish(hub: &Hub, user: &UserId, topic: &TopicId) {
//!     drop(hub.publish(user, None, "name", &1));
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::hub::Hub;
//! use trunkline_core::id::{TopicId, UserId};
//! fn publish(hub: &Hub, user: &UserId, topic: &TopicId) {
//!     drop(hub.publish(topic, None, "name", &1));
//! }
//! ```
//!
//! The name of a topic is no topic: it takes a tenant:
//!
//! ```
//! use trunkline_core::hub::Hub;
//! use trunkline_core::id::{TopicId, TopicName, UserId};
//! fn publish(hub: &Hub, user: &UserId, name: TopicName) {
//!     drop(hub.publish_topic(&TopicId::of(user, name), "name", &1));
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::hub::Hub;
//! use trunkline_core::id::{TopicId, TopicName, UserId};
//! fn publish(hub: &Hub, user: &UserId, name: TopicName) {
//!     drop(hub.publish_topic(&name, "name", &1));
//! }
//! ```
//!
//! The name of a user is no user: it takes a tenant:
//!
//! ```
//! use trunkline_core::hub::{Hub, UserStatus};
//! use trunkline_core::id::UserId;
//! fn status(hub: &Hub, user: &UserId) -> UserStatus {
//!     hub.user_status(user)
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::hub::{Hub, UserStatus};
//! use trunkline_core::id::UserId;
//! fn status(hub: &Hub, user: &UserId) -> UserStatus {
//!     hub.user_status(user.sub())
//! }
//! ```
//!
//! A tenant is no name:
//!
//! ```
//! use trunkline_core::id::{IdError, Tenant, UserId};
//! fn beside(user: &UserId, sub: &str, tenant: Tenant<'_>) -> Result<UserId, IdError> {
//!     user.beside(sub)
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::id::{IdError, Tenant, UserId};
//! fn beside(user: &UserId, sub: &str, tenant: Tenant<'_>) -> Result<UserId, IdError> {
//!     user.beside(tenant)
//! }
//! ```
//!
//! A tenant is compared with a tenant:
//!
//! ```
//! use trunkline_core::id::{Tenant, UserId};
//! fn is_of(user: &UserId, tenant: Tenant<'_>) -> bool {
//!     tenant == user.tenant()
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::id::{Tenant, UserId};
//! fn is_of(user: &UserId, tenant: Tenant<'_>) -> bool {
//!     tenant == user.sub()
//! }
//! ```
//!
//! A conversation is no name of a user:
//!
//! ```
//! use trunkline_core::id::{IdError, ThreadId, UserId};
//! fn user(sub: &str, thread: &ThreadId) -> Result<UserId, IdError> {
//!     UserId::new(None, sub)
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::id::{IdError, ThreadId, UserId};
//! fn user(sub: &str, thread: &ThreadId) -> Result<UserId, IdError> {
//!     UserId::new(None, thread)
//! }
//! ```
//!
//! A session is no connection:
//!
//! ```
//! use trunkline_core::hub::DeviceStatus;
//! use trunkline_core::id::ConnectionId;
//! fn is_here(device: &DeviceStatus, connection: ConnectionId) -> bool {
//!     device.connection == connection
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::hub::DeviceStatus;
//! use trunkline_core::id::ConnectionId;
//! fn is_here(device: &DeviceStatus, connection: ConnectionId) -> bool {
//!     device.session == connection
//! }
//! ```
//!
//! A run is no session:
//!
//! ```
//! use trunkline_core::id::{RunId, SessionId};
//! use trunkline_core::protocol::RevokeTarget;
//! fn target(session: SessionId, run: RunId) -> RevokeTarget {
//!     RevokeTarget::Session(session)
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::id::{RunId, SessionId};
//! use trunkline_core::protocol::RevokeTarget;
//! fn target(session: SessionId, run: RunId) -> RevokeTarget {
//!     RevokeTarget::Session(run)
//! }
//! ```
//!
//! A token's id is no token, and no text:
//!
//! ```
//! use trunkline_core::id::TokenId;
//! use trunkline_core::protocol::{RevokeTarget, Token};
//! fn target(id: TokenId, token: Token) -> RevokeTarget {
//!     RevokeTarget::Token(id)
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::id::TokenId;
//! use trunkline_core::protocol::{RevokeTarget, Token};
//! fn target(id: TokenId, token: Token) -> RevokeTarget {
//!     RevokeTarget::Token(token)
//! }
//! ```
//!
//! A call of a tool is no approval:
//!
//! ```
//! use trunkline_core::hub::{Approval, Run};
//! use trunkline_core::id::{ApprovalId, ToolCallId};
//! use trunkline_core::stream::RunError;
//! fn suspend(run: &Run, approval: ApprovalId, call: ToolCallId) -> Result<Approval, RunError> {
//!     run.suspend_as(approval, None)
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::hub::{Approval, Run};
//! use trunkline_core::id::{ApprovalId, ToolCallId};
//! use trunkline_core::stream::RunError;
//! fn suspend(run: &Run, approval: ApprovalId, call: ToolCallId) -> Result<Approval, RunError> {
//!     run.suspend_as(call, None)
//! }
//! ```
//!
//! A position is whole: a number is none:
//!
//! ```
//! use trunkline_core::protocol::Position;
//! fn is_there(position: Position, head: Position) -> bool {
//!     position >= head
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::protocol::Position;
//! fn is_there(position: Position, head: Position) -> bool {
//!     position >= head.seq
//! }
//! ```
//!
//! A position is for one stream, which a number does not name:
//!
//! ```
//! use trunkline_core::protocol::{Position, StreamName};
//! fn ack(stream: StreamName, event_id: Position) -> trunkline_core::protocol::ClientFrame {
//!     trunkline_core::protocol::ClientFrame::Ack { stream, event_id }
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::protocol::{Position, StreamName};
//! fn ack(stream: StreamName, event_id: Position) -> trunkline_core::protocol::ClientFrame {
//!     trunkline_core::protocol::ClientFrame::Ack { stream, event_id: event_id.seq }
//! }
//! ```
//!
//! The calendar and the monotonic clock are two:
//!
//! ```
//! use trunkline_core::time::{Timestamp, UnixTime};
//! fn is_over(now: Timestamp, at: Timestamp, expires: UnixTime) -> bool {
//!     now >= at
//! }
//! ```
//! ```compile_fail,E0308
//! use trunkline_core::time::{Timestamp, UnixTime};
//! fn is_over(now: Timestamp, at: Timestamp, expires: UnixTime) -> bool {
//!     now >= expires
//! }
//! ```
//!
//! No text is an id before it is parsed:
//!
//! ```
//! use trunkline_core::id::{IdError, ThreadId};
//! fn thread(text: &str) -> Result<ThreadId, IdError> {
//!     ThreadId::new(text)
//! }
//! ```
//! ```compile_fail,E0423
//! use trunkline_core::id::{IdError, ThreadId};
//! fn thread(text: &str) -> Result<ThreadId, IdError> {
//!     Ok(ThreadId(text.into()))
//! }
//! ```
//!
//! A token is never shown:
//!
//! ```
//! use trunkline_core::auth::Token;
//! fn shown(token: &Token) -> String {
//!     format!("{token:?}")
//! }
//! ```
//! ```compile_fail,E0277
//! use trunkline_core::auth::Token;
//! fn shown(token: &Token) -> String {
//!     format!("{token}")
//! }
//! ```
