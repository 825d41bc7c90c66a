//! From the first byte to `hello`: the upgrade, the carriers of a token, and what is refused how.

use super::phase::{Entering, Greeting, Phase, Profile, Said, Upgrading};
use super::{Admission, Connection, ConnectionEvent};
use crate::auth::carrier::{Carrier, CarrierError, Credential, Extracted, Extractor, Subprotocol, percent_decoded};
use crate::auth::{AuthError, Grant, Page};
use crate::codec::upgrade::{Head, Refusal, Request, Upgrade, check_upgrade, parse_head};
use crate::error::CloseReason;
use crate::protocol::{ClientFrame, Hello, Position, StreamName};
use crate::time::Now;

/// What a request head leads to.
enum Entry {
    Handoff,
    Refuse(Refusal),
    /// Upgraded and closed: for users who cannot read HTTP errors.
    CloseWith(Upgrade, Subprotocol, CloseReason),
    /// A client of the legacy profile says no `hello`: what stands for it comes with it.
    Open(Upgrade, Extracted, Option<Box<Hello>>),
}

impl Connection {
    /// Takes bytes up to the end of the head; what follows is the frames', or the web stack's.
    pub(super) fn read_head(&mut self, now: Now, bytes: &[u8]) -> usize {
        let Phase::Head(head) = &mut self.phase else { return 0 };
        match head.take(bytes, &self.settings.limits) {
            Ok((used, None)) => used,
            Ok((used, Some(whole))) => {
                if head.proxied {
                    self.reserve(now, whole)
                } else {
                    self.enter(now, whole)
                }
                used
            }
            Err(refusal) => {
                self.refuse(now, refusal);
                bytes.len()
            }
        }
    }

    pub(super) fn upgrade_verified(&mut self, now: Now, upgrading: Upgrading, verdict: Result<Grant, AuthError>) {
        let Upgrading { upgrade, carried, carrier, legacy } = upgrading;
        match verdict {
            Ok(grant) if let Some(hello) = legacy => {
                self.upgraded(now, &upgrade, Greeting { carried, grant: None });
                self.admit(now, Entering { grant, profile: Profile::Legacy }, *hello);
            }
            Ok(grant) => self.upgraded(now, &upgrade, Greeting { carried, grant: Some(grant) }),
            // The phase is put back for the refusal to act on.
            Err(error) if carrier == Carrier::Authorization => {
                self.phase = Phase::Head(Box::default());
                self.refuse(now, refusal_of(error));
            }
            Err(error) => {
                self.upgraded(now, &upgrade, Greeting { carried, grant: None });
                self.close(now, close_of(error));
            }
        }
    }

    pub(super) fn hello_verified(&mut self, now: Now, said: Said, verdict: Result<Grant, AuthError>) {
        let reason = match verdict {
            Ok(grant) if said.user_id.as_deref().is_none_or(|claimed| claimed == grant.user.sub()) => {
                return self.admit(now, Entering { grant, profile: Profile::Native }, said.hello);
            }
            Ok(_) => CloseReason::BadCredentials,
            Err(error) => close_of(error),
        };
        self.phase = Phase::VerifyHello(Box::default());
        self.close(now, reason);
    }

    /// The first message must be a `hello`: whatever else it is says that nobody with credentials is there.
    pub(super) fn first_message(&mut self, now: Now, text: Option<&str>) {
        let Some(text) = text else { return self.close(now, CloseReason::BadCredentials) };
        match ClientFrame::parse(text).map(|parsed| (parsed.frame, parsed.user_id)) {
            Ok((ClientFrame::Hello(hello), user_id)) => self.greet(now, *hello, user_id),
            Ok(_) | Err(_) => self.close(now, CloseReason::BadCredentials),
        }
    }

    /// Asks for a place for the client that a proxy speaks for: before its credentials are looked at.
    fn reserve(&mut self, now: Now, whole: Vec<u8>) {
        let Ok(Head::Complete { request, .. }) = parse_head(&whole, &self.settings.limits) else {
            // It is refused, whosever it is.
            return self.enter(now, whole);
        };
        self.event = Some(ConnectionEvent::Reserve(self.settings.proxies.client(&request)));
        self.phase = Phase::Reserving(whole);
    }

    pub(super) fn enter(&mut self, now: Now, whole: Vec<u8>) {
        match self.judge(&whole) {
            Entry::Handoff => {
                self.phase = Phase::Handoff(whole);
                self.event = Some(ConnectionEvent::Handoff);
            }
            Entry::Refuse(refusal) => self.refuse(now, refusal),
            Entry::CloseWith(upgrade, subprotocol, reason) => {
                let carried = Extracted { credential: None, subprotocol };
                self.upgraded(now, &upgrade, Greeting { carried, grant: None });
                self.close(now, reason);
            }
            Entry::Open(upgrade, carried, legacy) => match carried.credential.clone() {
                Some((credential, carrier)) => {
                    self.phase = Phase::VerifyUpgrade(Box::new(Upgrading { upgrade, carried, carrier, legacy }));
                    self.event = Some(ask(credential));
                }
                None => {
                    self.upgraded(now, &upgrade, Greeting { carried, grant: None });
                    if legacy.is_some() {
                        // Its frames have no place for a token.
                        self.close(now, CloseReason::BadCredentials);
                    }
                }
            },
        }
    }

    fn judge(&self, whole: &[u8]) -> Entry {
        let request = match parse_head(whole, &self.settings.limits) {
            Ok(Head::Complete { request, .. }) => request,
            // The scanner has seen the end, so the parser does too.
            Ok(Head::Incomplete) => return Entry::Refuse(Refusal::BadRequest("the request is not whole")),
            Err(refusal) => return Entry::Refuse(refusal),
        };
        if !self.is_relayed() && request.path() != self.settings.endpoint {
            return Entry::Handoff;
        }
        let upgrade = match check_upgrade(&request).and_then(|upgrade| self.extended(upgrade, &request)) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return Entry::Refuse(refusal),
        };
        // Before any credential: a page that may not ask learns nothing of them, and spends none.
        let host = request.headers("host").next().unwrap_or_default();
        let Ok(page) = self.settings.access.page(host, self.secure, request.headers("origin")) else {
            return Entry::Refuse(Refusal::Forbidden);
        };
        if let Some(refusal) = self.refusal() {
            return Entry::Refuse(refusal);
        }
        match self.extract(&request, page) {
            Ok(carried) => {
                let legacy = carried.subprotocol == Subprotocol::JwtAuth;
                Entry::Open(upgrade, carried, legacy.then(|| Box::new(legacy_hello(&request))))
            }
            Err(CarrierError::Malformed(Carrier::Authorization) | CarrierError::TooMany(Carrier::Authorization)) => {
                Entry::Refuse(Refusal::Unauthorized)
            }
            Err(CarrierError::Disagree) if request.headers("authorization").next().is_some() => {
                Entry::Refuse(Refusal::Unauthorized)
            }
            Err(_) => Entry::CloseWith(upgrade, self.named_by(&request), CloseReason::BadCredentials),
        }
    }

    /// The same with what is agreed on of extensions.
    fn extended(&self, upgrade: Upgrade, request: &Request<'_>) -> Result<Upgrade, Refusal> {
        if self.settings.limits.deflate_from.is_some() { upgrade.with_deflate(request) } else { Ok(upgrade) }
    }

    /// Every carrier that is on, for whom this page speaks.
    fn extract(&self, request: &Request<'_>, page: Page) -> Result<Extracted, CarrierError> {
        let access = &self.settings.access;
        let mut found = Extractor::default()
            .authorization(request.headers("authorization"))?
            .protocols(request.headers("sec-websocket-protocol"))?;
        if let Some(name) = access.cookie(page) {
            found = found.cookies(name, request.headers("cookie"))?;
        }
        let found = match request.query() {
            Some(query) if access.takes_tickets() => found.query(query)?.finish(),
            Some(_) | None => found.finish(),
        };
        Ok(Extracted { subprotocol: self.spoken(found.subprotocol), ..found })
    }

    /// The answer to a client whose credentials make no sense: without a name it offered, a browser would not show the close.
    fn named_by(&self, request: &Request<'_>) -> Subprotocol {
        let offers =
            |name: Subprotocol| request.members("sec-websocket-protocol").any(|one| Some(one) == name.as_str());
        let named = [OURS, Subprotocol::JwtAuth].into_iter().find(|name| offers(*name));
        self.spoken(named.unwrap_or_default())
    }

    /// What the settings leave of what was offered.
    fn spoken(&self, offered: Subprotocol) -> Subprotocol {
        match offered {
            Subprotocol::JwtAuth if !self.settings.legacy_profile => Subprotocol::None,
            Subprotocol::JwtAuth | Subprotocol::TrunklineV1 | Subprotocol::None => offered,
        }
    }

    fn upgraded(&mut self, now: Now, upgrade: &Upgrade, greeting: Greeting) {
        self.respond(now, upgrade.answer(greeting.carried.subprotocol.as_str()));
        if let (Some(agreed), Some(from)) = (upgrade.agreed(), self.settings.limits.deflate_from) {
            self.wire.set_deflate(agreed, &self.settings.deflate, from);
        }
        if greeting.grant.is_some() {
            // It is no stranger's: a client that follows many topics says so in its first frame.
            self.wire.set_max_message(self.settings.limits.message_bytes);
        }
        self.phase = Phase::AwaitHello(Box::new(greeting));
        self.phase_deadline = now.at + self.settings.limits.hello_deadline;
    }

    fn greet(&mut self, now: Now, mut hello: Hello, user_id: Option<String>) {
        let Phase::AwaitHello(greeting) = &mut self.phase else { return };
        let grant = greeting.grant.take();
        let carried = std::mem::take(&mut greeting.carried);
        let token = hello.token.take();
        let Ok(found) = carried.with_hello(token.as_ref().map(|token| token.as_str())) else {
            return self.close(now, CloseReason::BadCredentials);
        };
        match (grant, found) {
            (Some(grant), _) if user_id.as_deref().is_none_or(|claimed| claimed == grant.user.sub()) => {
                self.admit(now, Entering { grant, profile: Profile::Native }, hello)
            }
            (None, Some((credential, _))) => {
                self.phase = Phase::VerifyHello(Box::new(Said { hello, user_id }));
                self.event = Some(ask(credential));
            }
            (Some(_), _) | (None, None) => self.close(now, CloseReason::BadCredentials),
        }
    }

    fn admit(&mut self, now: Now, entering: Entering, hello: Hello) {
        if entering.grant.expires + self.settings.limits.token_leeway <= now.unix {
            // It held when the upgrade came. Nobody gives way to it, and nothing is given to it. The phase is put back to act on.
            self.phase = Phase::VerifyHello(Box::default());
            return self.close(now, CloseReason::TokenExpired);
        }
        let grant = entering.grant.clone();
        self.phase = Phase::Attaching(Box::new(entering));
        self.event = Some(ConnectionEvent::Attach(Box::new(Admission { grant, hello })));
    }
}

/// Keys that rotate are there within seconds, or their source is down.
const UNDECIDED_RETRY_SECS: u32 = 5;
const OURS: Subprotocol = Subprotocol::TrunklineV1;

/// What a legacy client could have said in a `hello`: where it stands, where its address says so. What is no position says
/// nothing; the welcome tells where the stream goes on in any case.
fn legacy_hello(request: &Request<'_>) -> Hello {
    let mut parameters = request.query().unwrap_or_default().split('&');
    let value = parameters.find_map(|text| text.strip_prefix("last_event_id="));
    let position = value.and_then(percent_decoded).and_then(|text| text.parse::<Position>().ok());
    Hello { resume: position.into_iter().map(|at| (StreamName::User, at)).collect(), ..Hello::default() }
}

fn ask(credential: Credential) -> ConnectionEvent {
    match credential {
        Credential::Token(token) => ConnectionEvent::Verify(token),
        Credential::Ticket(ticket) => ConnectionEvent::TakeTicket(ticket),
    }
}

/// A correctly signed token that is over is said so; everything else is alike.
const fn close_of(error: AuthError) -> CloseReason {
    match error {
        AuthError::Expired => CloseReason::TokenExpired,
        AuthError::Revoked => CloseReason::TokenRevoked,
        AuthError::Undecided => CloseReason::TryAgainLater,
        AuthError::Invalid(_) => CloseReason::BadCredentials,
    }
}

/// The same where an HTTP status can be read.
const fn refusal_of(error: AuthError) -> Refusal {
    match error {
        AuthError::Expired | AuthError::Revoked | AuthError::Invalid(_) => Refusal::Unauthorized,
        AuthError::Undecided => Refusal::Unavailable { retry_after_secs: UNDECIDED_RETRY_SECS },
    }
}
