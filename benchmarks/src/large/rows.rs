//! The table: what was wanted, and what was found.

use super::{Found, Options, catch_up::CatchUp, sizes::Added};
use crate::{
    cpu::Spent,
    report::{Report, Row, number},
    sample::Samples,
};

/// A quarter of what Megolm sends directly for each device when a session changes, in bytes.
const WELCOME: usize = 485;

/// How much longer a join may take than with OpenMLS alone.
const JOIN: f64 = 1.2;

/// For each commit that was missed, in milliseconds.
const CATCH_UP: f64 = 10.0;

/// Commits on a page of a room's history.
const PAGE: usize = 100;

/// What events may have: content, and all of it; and files. In bytes (protocol §12).
const LIMITS: [usize; 3] = [60 * 1024, 65_536, 32 * 1024 * 1024];

pub(super) fn report(
    options: &Options,
    found: &Found,
    added: &[Added],
    catch_up: &CatchUp,
) -> Report {
    let profile = if cfg!(debug_assertions) { "development" } else { "release" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let setting = format!(
        "{profile} profile, {} {}, {cores} cores; processor time (wall clock), medians of {} joins",
        std::env::consts::OS,
        std::env::consts::ARCH,
        options.joins,
    );
    Report {
        setting: vec![setting],
        rows: vec![
            welcomes(options, found),
            per_device(added),
            limits(found),
            readers(options, found),
            join(options, found),
            external(options, found),
            removal(options, found),
            one_tip(found),
            caught_up(options, catch_up),
        ],
        comparison: times(options, found, added),
    }
}

fn row(what: String, bound: impl Into<String>, measured: String, holds: Option<bool>) -> Row {
    Row { what, bound: Some(bound.into()), measured, holds, values: Vec::new() }
}

fn valued<'v>(mut row: Row, values: impl IntoIterator<Item = (&'v str, f64)>) -> Row {
    row.values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    row
}

fn spent(spent: Spent) -> String {
    let in_units = |ms: f64| {
        if ms < 10_000.0 {
            format!("{} ms", number(ms))
        } else {
            format!("{} s", number(ms / 1000.0))
        }
    };
    format!("{} ({})", in_units(spent.cpu), in_units(spent.wall))
}

fn median(all: impl IntoIterator<Item = Spent>) -> Spent {
    let (mut wall, mut cpu) = (Samples::default(), Samples::default());
    for one in all {
        wall.push(one.wall);
        cpu.push(one.cpu);
    }
    Spent { wall: wall.summary().median, cpu: cpu.summary().median }
}

fn welcomes(options: &Options, found: &Found) -> Row {
    let devices = options.devices;
    let (bytes, most) = (found.welcomes, WELCOME * devices);
    valued(
        row(
            format!("Welcomes to {devices} devices, in all"),
            format!("{most} bytes: a quarter of a change of session with Megolm"),
            format!("{bytes} bytes"),
            Some(bytes <= most),
        ),
        [("bytes", bytes as f64)],
    )
}

fn per_device(added: &[Added]) -> Row {
    let list = |value: fn(&Added) -> usize| {
        added.iter().map(|one| value(one).to_string()).collect::<Vec<_>>().join(" / ")
    };
    let devices = list(|one| one.devices);
    // Lengths are written in more bytes where they are larger, and names have more digits.
    let is_constant = |value: fn(&Added) -> usize| {
        let values = || added.iter().map(value);
        values().max().zip(values().min()).is_some_and(|(max, min)| max * 20 <= min * 21)
    };
    let constant = is_constant(|one| one.welcome) && is_constant(|one| one.commit);
    let values = added.iter().flat_map(|one| {
        [("welcome_bytes", one.welcome), ("commit_bytes", one.commit), ("tree_bytes", one.tree)]
    });
    valued(
        row(
            format!("add one device, to {devices} in all"),
            "Welcome and commit the same, up to 5 %; the tree, once for all, is apart",
            format!(
                "Welcome {}, commit {}, its event without the tree {}, tree {} bytes",
                list(|one| one.welcome),
                list(|one| one.commit),
                list(|one| one.event),
                list(|one| one.tree),
            ),
            Some(constant),
        ),
        values.map(|(name, value)| (name, value as f64)),
    )
}

fn limits(found: &Found) -> Row {
    let sizes = found.sizes;
    let [content, event, file] = LIMITS;
    valued(
        row(
            "largest content, event, file".to_owned(),
            format!("{content}, {event}, {file} bytes"),
            format!("{}, {}, {} bytes", sizes.content, sizes.event, sizes.file),
            Some(sizes.content <= content && sizes.event <= event && sizes.file <= file),
        ),
        [("content_bytes", sizes.content as f64), ("file_bytes", sizes.file as f64)],
    )
}

fn readers(options: &Options, found: &Found) -> Row {
    let (devices, read) = (options.devices, found.read);
    valued(
        row(
            "devices that join by Welcome, and read the first message".to_owned(),
            format!("{devices}"),
            format!("{read}"),
            Some(read == devices),
        ),
        [("devices", read as f64)],
    )
}

fn join(options: &Options, found: &Found) -> Row {
    let ours = median(found.late.iter().map(|late| late.joining));
    let openmls: Vec<_> = found.late.iter().filter_map(|late| late.openmls).collect();
    let devices = options.devices;
    let what = format!("join by Welcome at {devices} devices, from the sync to the first message");
    let bound = format!("{JOIN}x OpenMLS alone, in memory, by the wall clock");
    if openmls.is_empty() {
        return valued(row(what, bound, spent(ours), None), [("cpu_ms", ours.cpu)]);
    }
    let openmls = median(openmls);
    // What two processors do at once takes less time, but is no less work.
    let (work, ratio) = (ours.cpu / openmls.cpu, ours.wall / openmls.wall);
    let measured = format!(
        "{}, OpenMLS alone {}: {}x ({}x)",
        spent(ours),
        spent(openmls),
        number(work),
        number(ratio),
    );
    valued(
        row(what, bound, measured, Some(ratio <= JOIN)),
        [
            ("cpu_ms", ours.cpu),
            ("wall_ms", ours.wall),
            ("openmls_cpu_ms", openmls.cpu),
            ("openmls_wall_ms", openmls.wall),
            ("ratio", ratio),
            ("cpu_ratio", work),
        ],
    )
}

fn external(options: &Options, found: &Found) -> Row {
    let spent_on = found.external.joining;
    valued(
        row(
            format!("add oneself at {} devices, and write", options.devices),
            "is read by all that are there",
            format!(
                "{}, {}",
                if found.external.read { "it is" } else { "it is not" },
                spent(spent_on)
            ),
            Some(found.external.read),
        ),
        [("cpu_ms", spent_on.cpu)],
    )
}

fn removal(options: &Options, found: &Found) -> Row {
    let followers = found.followers as f64;
    valued(
        row(
            format!("remove one of {} devices", options.devices),
            "it cannot read what follows, and all others that are there can",
            if found.removal { "so it is" } else { "so it is not" }.to_owned(),
            Some(found.removal),
        ),
        [("devices", followers)],
    )
}

fn one_tip(found: &Found) -> Row {
    let all = found.followers;
    valued(
        row(
            format!("in the end, of {all} devices that have followed"),
            "all send in one epoch, and read one another",
            if found.one_tip { "all" } else { "not all" }.to_owned(),
            Some(found.one_tip),
        ),
        [("devices", all as f64)],
    )
}

fn caught_up(options: &Options, catch_up: &CatchUp) -> Row {
    let CatchUp { commits, spent: all, pages, events } = *catch_up;
    let [_, devices] = options.smaller;
    let each = |ms: f64| ms / commits.max(1) as f64;
    // The last page may say only that there is nothing more.
    let few = pages <= commits.div_ceil(PAGE) + 1;
    valued(
        row(
            format!("catch up {commits} commits in a room of {devices} devices"),
            format!("{CATCH_UP} ms each, in pages of {PAGE}"),
            format!(
                "{} ms ({} ms) each; {pages} pages, {events} single events",
                number(each(all.cpu)),
                number(each(all.wall)),
            ),
            Some(each(all.cpu) <= CATCH_UP && few),
        ),
        [("cpu_ms_each", each(all.cpu)), ("wall_ms_each", each(all.wall)), ("pages", pages as f64)],
    )
}

fn times(options: &Options, found: &Found, added: &[Added]) -> Vec<Row> {
    let plain = |what: String, measured: String, cpu: f64| {
        valued(
            Row { what, bound: None, measured, holds: None, values: Vec::new() },
            [("cpu_ms", cpu)],
        )
    };
    let devices = options.devices;
    let adding = median(found.late.iter().map(|late| late.adding));
    let updates = Spent {
        wall: found.updates.wall / options.updates.max(1) as f64,
        cpu: found.updates.cpu / options.updates.max(1) as f64,
    };
    let read = Spent {
        wall: found.reading.wall / devices as f64,
        cpu: found.reading.cpu / devices as f64,
    };
    let tree = added.last().map_or(0, |added| added.tree);
    vec![
        plain(format!("get the keys of {devices} devices"), spent(found.lists), found.lists.cpu),
        plain(
            format!("found the group, and add {devices} devices"),
            format!(
                "{}; {} commits, {} bytes of files",
                spent(found.create),
                found.commits,
                found.files
            ),
            found.create.cpu,
        ),
        plain(
            "every device: the keys of all others, the join, the first message".to_owned(),
            spent(read),
            read.cpu,
        ),
        plain(
            format!("add one device to {devices}, and write to it"),
            format!("{}; the tree has {tree} bytes", spent(adding)),
            adding.cpu,
        ),
        plain(
            format!("renew one's keys at {devices} devices, and enter what others have renewed"),
            spent(updates),
            updates.cpu,
        ),
    ]
}
