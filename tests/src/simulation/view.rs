//! What one device has seen, and whether that can be.

use std::collections::BTreeMap;

use trunkline_core::protocol::{
    AgentDeltas, DeltaPart, Event, EventBody, FailReason, Mode, Position, Snapshot, SnapshotRun, StreamEntry,
};

use super::cast;
use super::counters::Counted;
use super::truth::{Entry, Mark, PARTS, Truth, What, measure};
use super::world::Ctx;

/// A device's view of its user's own stream.
#[derive(Debug)]
pub(super) struct View {
    pub(super) user: usize,
    /// The thread that it watches; 0 is all.
    pub(super) filter: u8,
    /// Who it is, for people.
    pub(super) name: usize,
    pub(super) at: Option<Position>,
    /// A snapshot is to come.
    restoring: bool,
    /// The client is to say that something is lost.
    owes_gap: bool,
    pub(super) runs: BTreeMap<usize, RunSeen>,
}

/// How far a run was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunSeen {
    pub(super) run_seq: u64,
    /// How far each text was seen; `None` where its beginning is not known.
    pub(super) ends: [Option<u64>; PARTS],
    pub(super) over: bool,
    /// The beginnings of its texts may be gone.
    shortened: bool,
}

impl View {
    pub(super) fn new(name: usize, user: usize, filter: u8) -> Self {
        let (at, restoring, owes_gap, runs) = (None, false, false, BTreeMap::new());
        Self { user, filter, name, at, restoring, owes_gap, runs }
    }

    /// The application has forgotten everything.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.name, self.user, self.filter);
    }

    const fn shows(&self, entry: Entry) -> bool {
        self.filter == 0 || entry.thread == 0 || entry.thread == self.filter
    }

    /// What a welcome says of the stream.
    pub(super) fn place(&mut self, ctx: &Ctx, entry: &StreamEntry) {
        let before = self.at.replace(entry.event_id);
        let name = self.name;
        match entry.mode {
            Mode::Live => {
                ctx.tally.count(Counted::ResumedLive);
                ctx.hold(entry.head == entry.event_id, "I2", || format!("device {name} is live before the end"));
            }
            Mode::Replay => ctx.tally.count(Counted::Replayed),
            Mode::Reset => {
                ctx.tally.count(Counted::Reset);
                self.owes_gap = before.is_some();
            }
            Mode::Snapshot => {
                ctx.tally.count(Counted::BySnapshot);
                self.owes_gap = before.is_some();
                self.at = None;
                self.restoring = true;
            }
        }
        let knows_all = before == Some(entry.head);
        ctx.hold(!knows_all || matches!(entry.mode, Mode::Live), "I5", || {
            format!("device {name} was at the end, {before:?}, and is told of {:?}", entry.mode)
        });
        if matches!(entry.mode, Mode::Live | Mode::Replay) {
            let whole = before.is_none_or(|before| before == entry.event_id) && entry.lost.is_none();
            ctx.hold(whole, "I2", || format!("device {name} was at {before:?} and goes on at {}", entry.event_id));
        }
    }

    /// The client says that the stream begins anew.
    pub(super) fn gap(&mut self, ctx: &Ctx) {
        ctx.tally.count(Counted::Gaps);
        self.owes_gap = false;
        self.runs.clear();
    }

    /// The client says that it is in.
    pub(super) fn live(&mut self, ctx: &Ctx) {
        let name = self.name;
        ctx.hold(!self.owes_gap, "I2", || format!("device {name} was not told of a gap"));
        self.owes_gap = false;
    }

    /// Goes from one position to another over what lies between.
    fn follow(&mut self, ctx: &Ctx, truth: &mut Truth, prev: u64, to: Position) -> bool {
        let (name, at) = (self.name, self.at);
        let Some(before) = at else {
            ctx.blame("I3", || format!("device {name} got {to} before it was anywhere"));
            return false;
        };
        let follows = before.epoch == to.epoch && before.seq == prev && to.seq >= prev;
        ctx.hold(follows, "I1", || format!("device {name} was at {before} and got {to}, which follows {prev}"));
        let head = truth.users[self.user].head;
        ctx.hold(head.is_none_or(|head| head.epoch != to.epoch || to <= head), "I1", || {
            format!("device {name} got {to}, and the log ends at {head:?}")
        });
        self.at = Some(to);
        follows
    }

    /// Nothing that lies between two positions was for this device, but what is `covered`.
    fn skip(&self, ctx: &Ctx, truth: &mut Truth, from: u64, to: Position, covered: impl Fn(&Truth, What) -> bool) {
        for seq in from + 1..to.seq {
            let place = Position { seq, ..to };
            let Some(entry) = truth.users[self.user].entry(place).copied() else { continue };
            let hidden = entry.what == What::Unknown || !self.shows(entry) || covered(truth, entry.what);
            let name = self.name;
            ctx.hold(hidden, "I1", || format!("device {name} was not given {place}: {:?}", entry.what));
        }
    }

    /// An event of the stream.
    pub(super) fn event(&mut self, ctx: &Ctx, truth: &mut Truth, event: &Event) {
        ctx.tally.count(Counted::Events);
        let name = self.name;
        let is_own = event.user_id.as_deref() == Some(cast::USERS[self.user].1);
        ctx.hold(is_own, "I12", || format!("device {name} got an event of {:?}", event.user_id));
        let prev = event.follows();
        if !self.follow(ctx, truth, prev, event.position) {
            return;
        }
        let Some(what) = self.identify(ctx, truth, event) else {
            return ctx.blame("I12", || format!("device {name} got {event:?}, which nobody has published for it"));
        };
        self.compare(ctx, truth, event, what);
        if prev + 1 != event.position.seq {
            ctx.tally.count(Counted::Joined);
            let of = if let What::Run { tag, .. } = what { Some(tag) } else { None };
            self.skip(ctx, truth, prev, event.position, |truth, between| match between {
                What::Run { tag, run_seq } => {
                    Some(tag) == of && truth.runs[tag].mark(run_seq).is_some_and(Mark::is_text)
                }
                What::Unknown | What::Custom(_) | What::Message(_) => false,
            });
        }
        if let What::Run { tag, run_seq } = what {
            self.advance(ctx, truth, tag, run_seq, &event.body);
        }
    }

    /// Which event it is; its thread is looked at too.
    fn identify(&self, ctx: &Ctx, truth: &mut Truth, event: &Event) -> Option<What> {
        let (user, thread, what) = match &event.body {
            EventBody::Custom { name, data } => {
                let number = name.strip_prefix('n')?.parse().ok()?;
                let (user, thread, bytes) = *truth.customs.get(&number)?;
                let whole = data.get().len() == usize::from(bytes) + 2;
                ctx.hold(whole, "I1", || format!("event {number} has {} bytes of {bytes}", data.get().len()));
                (user, thread, What::Custom(number))
            }
            EventBody::UserMessage { content, .. } => {
                let number = content.strip_prefix('m')?.parse().ok()?;
                let (user, thread) = *truth.messages.get(&number)?;
                (user, thread, What::Message(number))
            }
            EventBody::AgentStarted { message, .. } => {
                let tag = match (truth.run_of(event.run_id?), message) {
                    (Some(tag), _) => tag,
                    (None, message) => message.as_deref()?.strip_prefix('r')?.parse().ok()?,
                };
                truth.runs.get(tag)?;
                truth.name(tag, event.run_id?);
                (truth.runs[tag].user, truth.runs[tag].thread, What::Run { tag, run_seq: event.run_seq? })
            }
            EventBody::AgentThinking { .. }
            | EventBody::ToolExecuting { .. }
            | EventBody::ToolCompleted { .. }
            | EventBody::AgentDelta { .. }
            | EventBody::AgentSuspended { .. }
            | EventBody::AgentResumed { .. }
            | EventBody::AgentCompleted { .. }
            | EventBody::AgentFailed { .. }
            | EventBody::AgentCancelled { .. } => {
                let tag = truth.run_of(event.run_id?)?;
                (truth.runs[tag].user, truth.runs[tag].thread, What::Run { tag, run_seq: event.run_seq? })
            }
        };
        let name = self.name;
        ctx.hold(user == self.user, "I12", || format!("device {name} got {what:?} of user {user}"));
        let said = event.thread_id.as_ref().map_or(0, cast::thread_number);
        ctx.hold(said == thread, "I12", || format!("{what:?} is of thread {thread} and came in {said}"));
        ctx.hold(self.shows(Entry { what, thread }), "I12", || {
            format!("device {name} watches thread {} and got {what:?} of {thread}", self.filter)
        });
        Some(what)
    }

    /// Every device sees the same at the same place.
    fn compare(&self, ctx: &Ctx, truth: &mut Truth, event: &Event, what: What) {
        let thread = event.thread_id.as_ref().map_or(0, cast::thread_number);
        let name = self.name;
        let Some(entry) = truth.users[self.user].entry(event.position) else {
            return ctx.blame("I4", || format!("device {name} got {}, where there is nothing", event.position));
        };
        let is_new = entry.what == What::Unknown;
        if is_new {
            *entry = Entry { what, thread };
        }
        let known = entry.what;
        if let What::Message(number) = what {
            ctx.hold(!is_new || truth.answer(number), "R49", || format!("message {number} is in the log twice"));
        }
        ctx.hold(known == what, "I1", || {
            format!("device {name} got {what:?} at {}, where {known:?} stands", event.position)
        });
    }

    /// An event takes a run on.
    fn advance(&mut self, ctx: &Ctx, truth: &mut Truth, tag: usize, run_seq: u64, body: &EventBody) {
        let name = self.name;
        lose(ctx, truth, tag, run_seq, body);
        resume(truth, tag, run_seq, body);
        let run = &truth.runs[tag];
        let Some(mark) = run.mark(run_seq) else {
            return ctx.blame("I10", || format!("device {name} got event {run_seq} of run {tag}, which nobody sent"));
        };
        ctx.hold(mark.is_said_by(body), "I10", || format!("event {run_seq} of run {tag} is {mark:?}, not {body:?}"));
        let seen = self.runs.entry(tag).or_default();
        ctx.hold(!seen.over, "I10", || format!("device {name} got event {run_seq} of run {tag} after its end"));
        let between = (seen.run_seq + 1..run_seq).all(|at| mark.is_text() && run.mark(at).is_some_and(Mark::is_text));
        ctx.hold(seen.run_seq < run_seq && between, "I1", || {
            format!("device {name} got event {run_seq} of run {tag} after {}", seen.run_seq)
        });
        seen.run_seq = run_seq;
        seen.over = mark.is_terminal();
        if let EventBody::AgentDelta { part_id, offset, text } = body {
            let part = cast::part_number(part_id);
            extend(ctx, (name, tag, run_seq), mark, seen, (part, *offset, text));
        }
        count(ctx, mark);
    }

    /// A window of merged text.
    pub(super) fn window(&mut self, ctx: &Ctx, truth: &mut Truth, window: &AgentDeltas) {
        ctx.tally.count(Counted::Windows);
        let is_own = window.user_id.as_deref() == Some(cast::USERS[self.user].1);
        ctx.hold(is_own, "I12", || format!("a window of {:?}", window.user_id));
        if !self.follow(ctx, truth, window.prev, window.position) {
            return;
        }
        let mut reached = BTreeMap::new();
        for part in &window.parts {
            let Some(tag) = truth.run_of(part.run_id) else {
                return ctx.blame("I12", || "a window tells of a run that nobody knows".to_owned());
            };
            self.piece(ctx, truth, tag, part);
            let last = reached.entry(tag).or_insert(0_u64);
            *last = part.run_seq.max(*last);
        }
        let end = Position { seq: window.position.seq + 1, ..window.position };
        self.skip(ctx, truth, window.prev, end, |truth, between| match between {
            What::Run { tag, run_seq } => {
                let told = reached.get(&tag).is_some_and(|last| *last >= run_seq);
                told && truth.runs[tag].mark(run_seq).is_some_and(Mark::is_text)
            }
            What::Unknown | What::Custom(_) | What::Message(_) => false,
        });
        for (tag, run_seq) in reached {
            let (run, seen) = (&truth.runs[tag], self.runs.entry(tag).or_default());
            let texts = (seen.run_seq + 1..=run_seq).all(|at| run.mark(at).is_some_and(Mark::is_text));
            ctx.hold(texts && !seen.over && seen.run_seq < run_seq, "I1", || {
                format!("a window takes run {tag} from {} to {run_seq}", seen.run_seq)
            });
            seen.run_seq = run_seq;
        }
    }

    fn piece(&mut self, ctx: &Ctx, truth: &Truth, tag: usize, piece: &DeltaPart) {
        let name = self.name;
        let run = &truth.runs[tag];
        ctx.hold(run.user == self.user, "I12", || format!("device {name} got a text of user {}", run.user));
        let Some(mark) = run.mark(piece.run_seq) else {
            return ctx.blame("I10", || format!("a window ends at event {} of run {tag}", piece.run_seq));
        };
        let (part, seen) = (cast::part_number(&piece.part_id), self.runs.entry(tag).or_default());
        extend(ctx, (name, tag, piece.run_seq), mark, seen, (part, piece.offset, &piece.text));
    }

    /// The client is moved on over what is hidden from it.
    pub(super) fn moved(&mut self, ctx: &Ctx, truth: &mut Truth, prev: u64, to: Position) {
        ctx.tally.count(Counted::Moves);
        if self.follow(ctx, truth, prev, to) {
            let end = Position { seq: to.seq + 1, ..to };
            self.skip(ctx, truth, prev, end, |_, _| false);
        }
    }

    /// A part of a snapshot.
    pub(super) fn snapshot(&mut self, ctx: &Ctx, truth: &Truth, part: &Snapshot) {
        if part.part == 1 {
            ctx.tally.count(Counted::Snapshots);
            self.restoring = true;
            self.runs.clear();
        }
        part.runs.iter().for_each(|run| self.restore(ctx, truth, run));
        if part.part == part.of {
            let before = self.at.replace(part.event_id);
            let forward = before.is_none_or(|before| before <= part.event_id);
            let name = self.name;
            ctx.hold(forward, "I1", || format!("a snapshot took device {name} back from {before:?}"));
            self.restoring = false;
        }
    }

    fn restore(&mut self, ctx: &Ctx, truth: &Truth, run: &SnapshotRun) {
        let Some(tag) = truth.run_of(run.run_id) else {
            return ctx.blame("I12", || "a snapshot tells of a run that nobody knows".to_owned());
        };
        let known = &truth.runs[tag];
        let shown = Entry { what: What::Run { tag, run_seq: 1 }, thread: known.thread };
        let name = self.name;
        ctx.hold(known.user == self.user && self.shows(shown), "I12", || format!("device {name} was given run {tag}"));
        let seen = self.runs.entry(tag).or_default();
        seen.run_seq = run.run_seq;
        seen.shortened |= run.shortened == Some(true);
        for piece in &run.parts {
            let part = cast::part_number(&piece.part_id);
            let Some(chars) = measure(tag, part, piece.offset, &piece.text) else {
                return ctx.blame("I1", || format!("a snapshot garbles the text of run {tag}"));
            };
            let end = seen.ends[part].get_or_insert(0);
            *end = (piece.offset + chars).max(*end);
        }
    }

    /// Whether there is nothing in the log that the device should have and has not.
    pub(super) fn has_all(&self, truth: &mut Truth) -> bool {
        let Some(head) = truth.users[self.user].head else { return true };
        let Some(at) = self.at.filter(|at| at.epoch == head.epoch) else { return false };
        (at.seq + 1..=head.seq).all(|seq| {
            let entry = truth.users[self.user].entry(Position { seq, ..head });
            // What nobody has seen may be hidden from a device that watches one thread.
            entry.is_some_and(|entry| if entry.what == What::Unknown { self.filter != 0 } else { !self.shows(*entry) })
        })
    }
}

/// A run whose producer over the wire is gone ends where nobody has said so.
fn lose(ctx: &Ctx, truth: &mut Truth, tag: usize, run_seq: u64, body: &EventBody) {
    let EventBody::AgentFailed { reason: FailReason::ProducerLost, .. } = body else { return };
    let run = &mut truth.runs[tag];
    if !run.wire || run.mark(run_seq) == Some(Mark::Lost) {
        return;
    }
    ctx.hold(run.let_go.is_some(), "I13", || format!("run {tag} was ended while its producer is there"));
    run.marks.truncate(run_seq.saturating_sub(1) as usize);
    run.push(Mark::Lost);
}

/// A person has decided: nobody else has said that the run goes on.
fn resume(truth: &mut Truth, tag: usize, run_seq: u64, body: &EventBody) {
    let run = &mut truth.runs[tag];
    let waits = run.marks.last() == Some(&Mark::Suspended) && run_seq == run.marks.len() as u64 + 1;
    if waits && matches!(body, EventBody::AgentResumed { .. }) {
        run.push(Mark::Resumed);
    }
}

/// A piece of text goes on where the last one ended, or repeats some of it, and ends where its event says.
fn extend(
    ctx: &Ctx,
    (name, tag, run_seq): (usize, usize, u64),
    mark: Mark,
    seen: &mut RunSeen,
    (part, offset, text): (usize, u64, &str),
) {
    let Some(chars) = measure(tag, part, offset, text) else {
        return ctx.blame("I1", || format!("device {name} got a text of run {tag} that is not what was said"));
    };
    let ends = mark == Mark::Text { part: part as u8, end: offset + chars };
    ctx.hold(ends, "I1", || format!("event {run_seq} of run {tag} is {mark:?}, not {offset} and {chars}"));
    let known = seen.ends[part].or((!seen.shortened).then_some(0));
    ctx.hold(known.is_none_or(|end| offset <= end && end <= offset + chars), "I1", || {
        format!("device {name} has {known:?} of a text of run {tag} and got {offset} and {chars}")
    });
    seen.ends[part] = Some(offset + chars);
}

fn count(ctx: &Ctx, mark: Mark) {
    match mark {
        Mark::Completed(_) => ctx.tally.count(Counted::Completed),
        Mark::Failed(_) => ctx.tally.count(Counted::Failed),
        Mark::Cancelled => ctx.tally.count(Counted::Cancelled),
        Mark::Lost => ctx.tally.count(Counted::ProducerLost),
        Mark::Suspended => ctx.tally.count(Counted::Suspended),
        Mark::Started | Mark::Thinking(_) | Mark::Called(_) | Mark::Ended(_) | Mark::Text { .. } | Mark::Resumed => {}
    }
}
