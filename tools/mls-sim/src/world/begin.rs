//! How a run begins: the room is there, and most are in its group.

use std::collections::BTreeMap;

use matrix_sdk_crypto_mls::{
    store::MemoryStore,
    testing::{FaultyStore, RoomOptions, SimDevice, SimRng, SimServer},
};
use ruma::OwnedUserId;
use serde_json::json;

use super::{Member, World};
use crate::{failure::Failure, outcome::Stats, scenario::Setup};

/// Devices need few key packages here, and making fifty takes longer than most runs.
const KEY_PACKAGES: u32 = 5;

/// What the content of a small event may have, in bytes.
const SMALL_EVENT: usize = 4096;

impl World {
    /// A room with everybody in it who is there from the beginning, and a message from the first.
    ///
    /// # Errors
    ///
    /// When that does not work.
    pub async fn begins(setup: &Setup) -> Result<Self, Failure> {
        let server = SimServer::new(setup.seed);
        let mut rng = SimRng::new(setup.seed ^ 0x5eed);
        let clock = server.clock().clone();
        server.soft_fails(setup.soft_fails);
        server.wants_no_olm_keys();
        let mut devices = Vec::new();
        for d in 0..setup.devices {
            let skew = skew(&mut rng, setup);
            devices.push(member(&server, setup, d % setup.users, d, skew).await);
        }
        let users: Vec<OwnedUserId> =
            devices.iter().take(setup.users).map(|m| m.device.user_id().clone()).collect();
        let events = BTreeMap::from([("io.github.matrix-mls.dmls.v1.group".to_owned(), 100)]);
        let options = RoomOptions { events: events.clone(), ..RoomOptions::default() };
        let founder = devices[0].device.creates_room_with(options).await;
        let room_id = founder.room().to_owned();
        for member in &mut devices {
            member.device = member.device.in_room(&room_id);
        }
        let mut world = Self {
            server,
            clock,
            users,
            devices,
            room_id,
            setup: setup.clone(),
            insiders: BTreeMap::new(),
            attacked_since: None,
            harmed: BTreeMap::new(),
            stats: Stats::default(),
            said: BTreeMap::new(),
            cut: Vec::new(),
            log: String::new(),
        };
        world.gives_power(&events);
        if setup.founder_alone {
            world.says(0).await?;
            return Ok(world);
        }
        for user in 1..setup.users - setup.outside {
            let name = world.users[user].clone();
            world.set_membership(0, user, &ruma::events::room::member::MembershipState::Invite);
            world.note(&format!("{name} is invited"));
            world.joins(user).await?;
        }
        world.says(0).await?;
        world.settles().await?;
        Ok(world)
    }

    /// The first two users may do everything, every third one may throw others out.
    fn gives_power(&self, events: &BTreeMap<String, i64>) {
        let level = |user: usize| match user {
            0 | 1 => 100,
            user if user.is_multiple_of(3) => 50,
            _ => 0,
        };
        let users: BTreeMap<_, _> = self
            .users
            .iter()
            .enumerate()
            .map(|(user, name)| (name.as_str(), level(user)))
            .collect();
        let content = json!({ "users": users, "events": events });
        self.server
            .send_state(&self.users[0], &self.room_id, "m.room.power_levels", "", content)
            .expect("the room's creator may");
    }

    /// One more device of a user.
    pub(crate) async fn adds_device(&mut self, user: usize) -> usize {
        let number = self.devices.len();
        let mut new = member(&self.server, &self.setup, user, number, 0).await;
        new.device = new.device.in_room(&self.room_id);
        new.device.clock().advance(self.true_time() - clock_of(&new.device));
        self.devices.push(new);
        number
    }
}

fn clock_of(device: &SimDevice) -> u64 {
    matrix_sdk_crypto_mls::Clock::now(device.clock())
}

/// A fifth of the clocks are off by up to an hour, some by years.
fn skew(rng: &mut SimRng, setup: &Setup) -> i64 {
    const HOUR: usize = 3_600_000;
    if !setup.skewed || !rng.chance(20) {
        return 0;
    }
    let by = i64::try_from(rng.below(HOUR)).unwrap_or_default();
    match rng.below(4) {
        0 => -by,
        1 => by + 3 * 365 * 24 * 3_600_000,
        _ => by,
    }
}

async fn member(
    server: &SimServer,
    setup: &Setup,
    user: usize,
    number: usize,
    skew: i64,
) -> Member {
    let now = matrix_sdk_crypto_mls::Clock::now(server.clock());
    let clock = matrix_sdk_crypto_mls::testing::TestClock::at(now.saturating_add_signed(skew));
    let mut device = server
        .device(&format!("u{user}"), &format!("D{number}"))
        .clock(clock)
        .key_packages(KEY_PACKAGES)
        .store(FaultyStore::around(std::sync::Arc::new(MemoryStore::new())));
    if setup.small_events {
        device = device.max_event_content(SMALL_EVENT);
    }
    let device = device.logs_in().await;
    Member {
        device,
        user,
        skew,
        is_online: true,
        is_gone: false,
        is_evil: false,
        asks_for_members: false,
        waits_since: None,
        is_untouched: true,
        has_gaps: false,
    }
}
