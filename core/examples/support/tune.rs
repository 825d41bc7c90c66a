//! What a listener's sockets are set to.

/// Small frames go out at once, and little lies in the system's own buffer, where a ping would wait behind it and no event could
/// be merged any more. On Linux sockets have both from their listener; where the system refuses, what is sent only comes later.
pub(crate) fn tune(listener: &impl std::os::fd::AsFd) {
    let socket = socket2::SockRef::from(listener);
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(trunkline_core::serve::MAX_UNSENT_BYTES);
}
