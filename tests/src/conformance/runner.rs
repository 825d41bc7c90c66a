//! One scenario against one server, step by step.

mod http;
mod upgrade;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::language::{Action, Carrier, Patience, Payload, Scenario, Step, TokenSpec, UpgradeHead};
use super::net::{Local, Net, within};
use super::peer::{Lane, Peer};
use super::report::Failure;
use super::secrets::Secrets;
use super::template::{Template, Variables};
use super::token::Issuer;

/// What a step comes to.
type Outcome<T> = Result<T, String>;

/// Runs a scenario under names that begin with `prefix`, so that it meets nothing of another run.
///
/// # Errors
/// The first step that did not come to what it says.
pub async fn run(scenario: &Scenario, net: &dyn Net, issuer: &Issuer, prefix: &str) -> Result<(), Box<Failure>> {
    let mut variables = Variables::new(prefix.to_owned());
    variables.set("host", net.host().into());
    variables.set("path", net.path().into());
    let mut run = Run { net, issuer, variables, secrets: Secrets::default(), peers: BTreeMap::new(), asked: 0 };
    match run.steps(&scenario.steps).await {
        Ok(()) => Ok(()),
        Err((step, problem)) => Err(Box::new(run.failure(scenario, step, &problem))),
    }
}

struct Run<'a> {
    net: &'a dyn Net,
    issuer: &'a Issuer,
    variables: Variables,
    secrets: Secrets,
    peers: BTreeMap<String, Peer>,
    /// Pings of `quiet` so far.
    asked: u32,
}

impl<'a> Run<'a> {
    fn failure(&self, scenario: &Scenario, step: &Step, problem: &str) -> Failure {
        let transcript = self.peers.iter();
        let transcript = transcript.flat_map(|(name, peer)| peer.log.iter().map(move |line| format!("{name} {line}")));
        Failure {
            rule: scenario.rule.clone(),
            place: format!("{}:{}", scenario.file, step.line),
            step: step.text.clone(),
            problem: self.secrets.mask(problem),
            transcript: transcript.collect(),
        }
    }

    fn steps<'r, 's: 'r>(&'r mut self, steps: &'s [Step]) -> Local<'r, Result<(), (&'s Step, String)>> {
        Box::pin(async move {
            for step in steps {
                if let Action::Repeat { times, variable, steps } = &step.action {
                    for time in 1..=*times {
                        if let Some(name) = variable {
                            self.variables.set(name, time.into());
                        }
                        self.steps(steps).await?;
                    }
                } else {
                    self.act(&step.action).await.map_err(|problem| (step, problem))?;
                }
            }
            Ok(())
        })
    }

    fn peer(&mut self, name: &str) -> Outcome<&mut Peer> {
        self.peers.get_mut(name).ok_or_else(|| format!("no earlier step has opened `{name}`"))
    }

    async fn act(&mut self, action: &Action) -> Outcome<()> {
        let net = self.net;
        match action {
            Action::Token { name, spec } => {
                let token = self.issue(spec)?;
                self.variables.set(name, token.into());
                Ok(())
            }
            Action::Let { name, value } => {
                let value = value.fill(&self.variables)?;
                self.variables.set(name, value);
                Ok(())
            }
            Action::Open { peer, spec, carrier, hello, narrow } => {
                self.open(peer, spec, *carrier, hello, *narrow).await
            }
            Action::Connect { peer, narrow } => self.connect(peer, *narrow).await,
            Action::Upgrade { peer, head } => self.upgrade(peer, head).await,
            Action::Bytes { peer, bytes, times } => {
                let bytes = bytes.fill_text(&self.variables)?.repeat(*times);
                self.peer(peer)?.send(net, bytes.as_bytes(), &bytes).await
            }
            Action::Raw { peer, bytes } => {
                let what = format!("{} bytes", bytes.len());
                self.peer(peer)?.send(net, bytes, &what).await
            }
            Action::Status { peer, status, headers, patience } => {
                let (came, found) = self.wait(peer, *patience, async |peer| peer.head().await).await?;
                if came != *status {
                    return Err(format!("the status is {came}, {status} was expected"));
                }
                headers.matches(&found, &mut self.variables).map_err(|problem| format!("of the headers, {problem}"))
            }
            Action::Send { peer, frame, padded } => {
                let text = self.text_of(frame, *padded)?;
                self.peer(peer)?.send_frame(net, 0x81, text.as_bytes(), true).await
            }
            Action::SendText { peer, text } => {
                let text = text.fill_text(&self.variables)?;
                self.peer(peer)?.send_frame(net, 0x81, text.as_bytes(), true).await
            }
            Action::Frame { peer, first, masked, payload } => {
                let payload = match payload {
                    Payload::Text(text) => text.fill_text(&self.variables)?.into_bytes(),
                    Payload::Hex(bytes) => bytes.clone(),
                };
                self.peer(peer)?.send_frame(net, *first, &payload, *masked).await
            }
            Action::Expect { peer, pattern, seek, patience } => {
                let lane = Lane::wanted(pattern, &self.variables);
                loop {
                    let frame = self.wait(peer, *patience, async |peer| peer.next(net, &lane).await).await?;
                    let compared = pattern.matches(&frame, &mut self.variables);
                    self.note_place(peer, &lane, &frame)?;
                    match compared {
                        Err(_) if *seek => {}
                        compared => return compared.map_err(|problem| format!("{problem}, in {frame}")),
                    }
                }
            }
            Action::Welcomed { peer, pattern } => {
                let welcome = self.peer(peer)?.verified.welcome.clone();
                pattern.matches(&welcome, &mut self.variables).map_err(|problem| format!("{problem}, in {welcome}"))
            }
            Action::Pong { peer, payload } => {
                let pong = self.wait(peer, Patience::usual(), async |peer| peer.pong(net).await).await?;
                let payload = payload.fill_text(&self.variables)?;
                if pong == payload.as_bytes() { Ok(()) } else { Err(format!("the pong carries {pong:?}")) }
            }
            Action::CatchesUp { peer } => {
                self.wait(peer, Patience::usual(), async |peer| peer.caught_up(net).await).await?;
                let at = self.peer(peer)?.verified.at("user");
                self.variables.set(&format!("{peer}.at"), at.into());
                Ok(())
            }
            Action::Quiet { peer } => {
                // What is wrongly on its way may come after the first answer.
                self.quiet(peer).await?;
                self.quiet(peer).await
            }
            Action::Closes { peer, code, dropping, patience } => {
                let came = self.wait(peer, *patience, async |peer| peer.closed(net).await).await?;
                if came != *code {
                    return Err(format!("the close code is {came}, {code} was expected"));
                }
                if *dropping {
                    Ok(())
                } else {
                    self.peer(peer)?.left().map_err(|left| format!("before the close, {left}"))
                }
            }
            Action::Ends { peer, patience } => self.wait(peer, *patience, async |peer| peer.ended(net).await).await,
            Action::Shows { peer, run, part, text } => {
                let (run, text) = (run.fill_text(&self.variables)?, text.fill_text(&self.variables)?);
                let shown = self.peer(peer)?.verified.shown(&run, part);
                if shown == text { Ok(()) } else { Err(format!("{shown:?} is shown, {text:?} was expected")) }
            }
            Action::Mute { peer } => {
                self.peer(peer)?.answers = false;
                Ok(())
            }
            Action::Cut { peer } => self.peer(peer)?.cut(),
            Action::Fin { peer } => self.peer(peer)?.fin(net).await,
            Action::Leave { peer, code } => {
                let payload = code.map(u16::to_be_bytes);
                let payload = payload.as_ref().map_or(&[][..], |code| code);
                self.peer(peer)?.send_frame(net, 0x88, payload, true).await
            }
            Action::Http { request, token, body, status, pattern } => {
                self.http(request, token.as_deref(), body.as_ref(), *status, pattern).await
            }
            Action::Stop => net.stop(),
            // `steps` has it.
            Action::Repeat { .. } => Ok(()),
        }
    }

    /// Waits for what a peer is to come to, no longer than it may take, and holds that it has not come too early.
    async fn wait<T>(
        &mut self,
        peer: &str,
        patience: Patience,
        on: impl AsyncFnOnce(&mut Peer) -> Outcome<T>,
    ) -> Outcome<T> {
        let net = self.net;
        let peer = self.peer(peer)?;
        let Some(outcome) = within(net, patience.within, on(peer)).await else {
            return Err(format!("it did not come within {:?}", patience.within));
        };
        let took = net.now().saturating_sub(peer.since);
        if outcome.is_ok() && took < patience.not_before {
            return Err(format!("it came after {took:?}, which is before {:?}", patience.not_before));
        }
        outcome
    }

    fn issue(&mut self, spec: &TokenSpec) -> Outcome<String> {
        let token = self.issuer.issue(spec, &self.variables, self.net.unix_secs())?;
        self.secrets.add(&token);
        Ok(token)
    }

    fn text_of(&self, frame: &Template, padded: Option<usize>) -> Outcome<String> {
        let mut frame = frame.fill(&self.variables)?;
        if let Some(length) = padded {
            frame["pad"] = "".into();
            let bare = frame.to_string().len();
            let more = length.checked_sub(bare).ok_or_else(|| format!("the frame has {bare} bytes without padding"))?;
            frame["pad"] = "x".repeat(more).into();
        }
        Ok(frame.to_string())
    }

    /// `${peer.at}` is where the client stands after the last frame that a step took.
    fn note_place(&mut self, name: &str, lane: &Lane, frame: &Value) -> Outcome<()> {
        if *lane == Lane::Stream("user".to_owned()) {
            self.variables.set(&format!("{name}.at"), frame["event_id"].clone());
        }
        Ok(())
    }

    async fn connect(&mut self, name: &str, narrow: bool) -> Outcome<()> {
        let peer = Peer::connect(self.net, narrow, self.secrets.clone()).await?;
        self.peers.insert(name.to_owned(), peer);
        Ok(())
    }

    /// Comes in whole; `${peer.at}`, `${peer.session}` and `${peer.connection}` are known afterwards.
    async fn open(
        &mut self,
        name: &str,
        spec: &TokenSpec,
        carrier: Carrier,
        hello: &Template,
        narrow: bool,
    ) -> Outcome<()> {
        let net = self.net;
        let token = self.issue(spec)?;
        let mut hello = hello.fill(&self.variables)?;
        hello["type"] = "hello".into();
        let carried = match carrier {
            Carrier::Hello => {
                hello["token"] = token.as_str().into();
                Vec::new()
            }
            Carrier::Ticket => vec![(carrier, self.ticket(&token).await?)],
            Carrier::Subprotocol | Carrier::Authorization | Carrier::Cookie => vec![(carrier, token)],
        };
        let carriers = carried.into_iter().map(|(carrier, text)| Ok((carrier, Template::text(&text)?)));
        let carriers = carriers.collect::<Outcome<_>>()?;
        let head = UpgradeHead { carriers, target: Template::text("${path}")?, with: vec![], without: vec![], narrow };
        self.upgrade(name, &head).await?;
        let (status, headers) = self.wait(name, Patience::usual(), async |peer| peer.head().await).await?;
        if status != 101 || headers["sec-websocket-protocol"] != "trunkline.v1" {
            return Err(format!("the upgrade was answered by {status} {headers}"));
        }
        self.peer(name)?.send_frame(net, 0x81, hello.to_string().as_bytes(), true).await?;
        let lane = Lane::Kind("welcome".to_owned());
        let welcome = self.wait(name, Patience::usual(), async |peer| peer.next(net, &lane).await).await?;
        let user = format!("{}{}", self.variables.prefix, spec.user);
        if welcome["user_id"] != user.as_str() {
            return Err(format!("{user} is welcomed as {}", welcome["user_id"]));
        }
        self.variables.set(&format!("{name}.session"), welcome["session_id"].clone());
        self.variables.set(&format!("{name}.connection"), welcome["connection_id"].clone());
        if let Some(at) = self.peer(name)?.verified.at("user") {
            self.variables.set(&format!("{name}.at"), at.into());
        }
        Ok(())
    }

    /// Sends a ping and takes its pong: whatever was on its way came before.
    async fn quiet(&mut self, name: &str) -> Outcome<()> {
        let net = self.net;
        self.asked += 1;
        let id = format!("quiet-{}", self.asked);
        let ping = json!({"type": "ping", "id": id}).to_string();
        self.peer(name)?.send_frame(net, 0x81, ping.as_bytes(), true).await?;
        let lane = Lane::Kind("pong".to_owned());
        let pong = self.wait(name, Patience::usual(), async |peer| peer.next(net, &lane).await).await?;
        if pong["id"] != id.as_str() {
            return Err(format!("{pong} came, which no step has taken"));
        }
        self.peer(name)?.left()
    }
}

impl Patience {
    const fn usual() -> Self {
        Self { within: Duration::from_secs(30), not_before: Duration::ZERO }
    }
}
