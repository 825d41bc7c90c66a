//! The heads of upgrades.

use super::{Outcome, Run};
use crate::conformance::language::{Carrier, UpgradeHead};

/// The usual header lines, but for `Host`.
const USUAL: [(&str, &str); 5] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Protocol", "trunkline.v1"),
];

/// The page that may bring a cookie.
const PAGE: &str = "https://app.example";

impl Run<'_> {
    pub(super) async fn upgrade(&mut self, name: &str, head: &UpgradeHead) -> Outcome<()> {
        if !self.peers.contains_key(name) || self.peer(name).is_ok_and(|peer| !peer.is_fresh()) {
            self.connect(name, head.narrow).await?;
        }
        let text = self.head_of(head)?;
        let net = self.net;
        self.peer(name)?.send(net, text.as_bytes(), text.trim_end()).await
    }

    fn head_of(&self, head: &UpgradeHead) -> Outcome<String> {
        let mut target = head.target.fill_text(&self.variables)?;
        let mut offered = String::new();
        let mut more = Vec::new();
        for (carrier, text) in &head.carriers {
            let text = text.fill_text(&self.variables)?;
            match carrier {
                // What is spelled out stands as it is.
                Carrier::Subprotocol if text.contains('.') && text.split('.').count() != 3 => {
                    offered += &format!(", {text}")
                }
                Carrier::Subprotocol => offered += &format!(", bearer.{text}"),
                Carrier::Authorization if text.contains(' ') => more.push(format!("Authorization: {text}")),
                Carrier::Authorization => more.push(format!("Authorization: Bearer {text}")),
                Carrier::Cookie => {
                    more.extend([format!("Origin: {PAGE}"), format!("Cookie: theme=dark; token={text}")])
                }
                Carrier::Ticket => target += &format!("?ticket={text}"),
                Carrier::Hello => return Err("`hello` is a frame of its own".to_owned()),
            }
        }
        let mut lines = vec![format!("GET {target} HTTP/1.1")];
        if !head.without.iter().any(|name| name == "host") {
            lines.push(format!("Host: {}", self.net.host()));
        }
        for (name, value) in USUAL {
            if !head.without.contains(&name.to_ascii_lowercase()) {
                let offered = if name == "Sec-WebSocket-Protocol" { offered.as_str() } else { "" };
                lines.push(format!("{name}: {value}{offered}"));
            }
        }
        lines.extend(more);
        for line in &head.with {
            lines.push(line.fill_text(&self.variables)?);
        }
        Ok(lines.join("\r\n") + "\r\n\r\n")
    }
}
