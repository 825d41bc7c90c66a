//! Every committed seed, through its target.

use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        // Said only when it fails: which one it was.
        println!("{}", path.display());
        target(&data);
        // Every beginning too: a peer may stop anywhere.
        for len in 0..data.len().min(512) {
            target(&data[..len]);
        }
        count += 1;
    }
    assert!(count > 0, "no seed for {name}");
}

#[test]
fn head() {
    replay("head", trunkline_fuzz::head);
}

#[test]
fn frames() {
    replay("frames", trunkline_fuzz::frames);
}

#[test]
fn deflate() {
    replay("deflate", trunkline_fuzz::deflate);
}

#[test]
fn client_frame() {
    replay("client_frame", trunkline_fuzz::client_frame);
}

#[test]
fn token() {
    replay("token", trunkline_fuzz::token);
}

#[test]
fn jwks() {
    replay("jwks", trunkline_fuzz::jwks);
}

#[test]
fn session() {
    replay("session", trunkline_fuzz::session);
}

#[test]
fn client() {
    replay("client", trunkline_fuzz::client);
}

#[test]
fn differential() {
    replay("differential", trunkline_fuzz::differential);
    // Frames for the one are frames for the other.
    replay("frames", trunkline_fuzz::differential);
}

#[test]
fn manager() {
    replay("manager", trunkline_fuzz::manager);
}

#[test]
fn scenario() {
    replay("scenario", trunkline_fuzz::scenario);
}
