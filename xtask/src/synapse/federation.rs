//! Two Synapses that federate, over a link that can be cut.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};

use super::{Options, Peering, START_LIMIT, Synapse};
use crate::{http, link::Link, process::Cancel, progress::Progress};

/// Two running Synapses that reach each other. They are stopped when this is dropped.
#[derive(Debug)]
pub struct Federation {
    link: Link,
    synapses: [Synapse; 2],
}

impl Federation {
    /// Starts both, and waits until each answers the other. Containers are not supported: what is
    /// `localhost` to one is not to the other.
    pub fn start(dir: &Path, options: Options, cancel: &Cancel) -> Result<Self> {
        if options.container {
            bail!("two Synapses that federate do not run in containers");
        }
        let link = Link::open()?;
        let [a, b] = link.names();
        let peerings = [
            Peering { name: a.clone(), peer: b.clone() },
            Peering { name: b.clone(), peer: a.clone() },
        ];
        let [a, b] = thread::scope(|scope| {
            let starts = peerings.each_ref().map(|peering| {
                scope.spawn(move || Synapse::start_with(dir, options, Some(peering), cancel))
            });
            starts.map(|start| {
                start.join().unwrap_or_else(|_| Err(anyhow!("the start of Synapse panicked")))
            })
        });
        let federation = Self { link, synapses: [a?, b?] };
        let [a, b] = &federation.synapses;
        federation.link.lead_to([a.ports.federation, b.ports.federation]);
        federation.wait_until_connected(cancel)?;
        Ok(federation)
    }

    /// Where the tests find it, as variables of the environment.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let [a, b] = &self.synapses;
        [
            ("MLS_TEST_FEDERATION_A", a.url()),
            ("MLS_TEST_FEDERATION_B", b.url()),
            ("MLS_TEST_FEDERATION_CONTROL", self.link.control()),
        ]
    }

    fn wait_until_connected(&self, cancel: &Cancel) -> Result<()> {
        let progress = Progress::start_in_background("Connecting the two Synapses");
        let begin = Instant::now();
        let [name_a, name_b] = self.link.names();
        let [a, b] = &self.synapses;
        while !(asks(a, &name_b) && asks(b, &name_a)) {
            cancel.check()?;
            if begin.elapsed() > START_LIMIT {
                bail!(
                    "the two Synapses do not reach each other after {START_LIMIT:?}\n{}\n{}",
                    a.logs(),
                    b.logs()
                );
            }
            thread::sleep(Duration::from_millis(100));
        }
        progress.finish();
        Ok(())
    }
}

/// Whether the server gets an answer from the one of this name: that there is no such user.
fn asks(synapse: &Synapse, name: &str) -> bool {
    let path = format!("/_matrix/client/v3/profile/@nobody:{name}");
    http::status(synapse.ports.client, &path) == Some(404)
}
