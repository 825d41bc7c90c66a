//! What one idle connection costs.

use crate::hub::Session;

#[test]
fn a_session_is_small() {
    // The machine, the cursor and the leases; buffers exist only while bytes are in flight.
    assert!(size_of::<Session>() <= 640, "{}", size_of::<Session>());
}
