//! Requests of the HTTP API, one a connection.

use std::time::Duration;

use serde_json::Value;

use super::{Outcome, Run};
use crate::conformance::net::within;
use crate::conformance::pattern::Pattern;
use crate::conformance::peer::Peer;
use crate::conformance::template::Template;

/// As long as the protocol lets an answer take.
const ANSWER: Duration = Duration::from_secs(30);

impl Run<'_> {
    pub(super) async fn http(
        &mut self,
        request: &Template,
        token: Option<&str>,
        body: Option<&Template>,
        status: u16,
        pattern: &Pattern,
    ) -> Outcome<()> {
        let request = request.fill_text(&self.variables)?;
        let token = token.map(|name| self.variables.get(name)).transpose()?;
        let body = body.map(|body| body.fill(&self.variables)).transpose()?;
        let token = token.as_ref().and_then(Value::as_str);
        let (came, found) = self.exchange(&request, token, body.as_ref()).await?;
        if came != status {
            return Err(format!("the status is {came}, {status} was expected: {found}"));
        }
        pattern.matches(&found, &mut self.variables).map_err(|problem| format!("{problem}, in {found}"))
    }

    /// A fresh ticket.
    pub(super) async fn ticket(&mut self, token: &str) -> Outcome<String> {
        let (status, body) = self.exchange("POST /v1/tickets", Some(token), None).await?;
        let ticket = body["ticket"].as_str().filter(|_| status == 200);
        ticket.map(str::to_owned).ok_or_else(|| format!("no ticket is issued: {status} {body}"))
    }

    async fn exchange(&mut self, request: &str, token: Option<&str>, body: Option<&Value>) -> Outcome<(u16, Value)> {
        let net = self.net;
        let mut peer = Peer::connect(net, false, self.secrets.clone()).await?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!("{request} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", net.host(), body.len());
        if !body.is_empty() {
            head += "Content-Type: application/json\r\n";
        }
        if let Some(token) = token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        let whole = format!("{head}Connection: close\r\n\r\n{body}");
        let exchange = async {
            peer.send(net, whole.as_bytes(), &whole).await?;
            let (status, _) = peer.head().await?;
            let body = peer.rest().await?;
            Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
        };
        let outcome = within(net, ANSWER, exchange).await.ok_or("no answer came in time")?;
        // For the report, where a later step fails.
        self.peers.insert("http".to_owned(), peer);
        outcome
    }
}
