//! What leaves the machine and what is stored, as it looks.

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use insta::assert_json_snapshot;
use matrix_dmls::{Device, InstanceId, KeyPackage, KeyPackageRef, NodeId, Secret};
use ruma::{
    OwnedEventId, OwnedUserId, event_id,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
    owned_mxc_uri, user_id,
};
use serde_json::Value;

use crate::{
    AnyOutgoingRequest, Obstacle, Verdict,
    room::{
        Anew, Behind, Foundings, Gap, Gaps, GraphRequest, KeyRequest, KeyRequests, MlsSince,
        OtherGroup, RoomView, SpareKey, Standing, WaitingFile, Walk, WantedKey,
    },
    store::MlsStore as _,
    testing::SimServer,
    types::events::{GroupEventContent, MediaFile},
};

#[tokio::test]
async fn an_upload_of_key_packages_looks_like_this() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in_quietly().await;
    let requests = alice.mls().outgoing_requests().await.unwrap();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    let AnyOutgoingRequest::KeysUpload(upload) = request.request() else { panic!("{request:?}") };
    assert!(upload.device_keys.is_none());
    assert_eq!((upload.one_time_keys.len(), upload.fallback_keys.len()), (50, 1));

    for (keys, last_resort) in [(&upload.one_time_keys, false), (&upload.fallback_keys, true)] {
        for (id, key) in keys {
            let mut key: Value = key.deserialize_as_unchecked().unwrap();
            let bytes = key["key"].as_str().unwrap();
            let bytes = STANDARD_NO_PAD.decode(bytes).unwrap();
            let package = KeyPackage::parse_and_verify(&bytes).unwrap();
            assert_eq!(package.member().device(), &alice.mls().identity().device);
            // The ID is the reference, in the alphabet that IDs have.
            let (algorithm, name) = id.as_str().split_once(':').unwrap();
            let reference = matrix_dmls::key_package_ref(&bytes);
            assert_eq!(name, URL_SAFE_NO_PAD.encode(reference.as_bytes()));
            key["key"] = "<key package>".into();
            key["signatures"]["@alice:example.org"]["ed25519:PHONE"] = "<signature>".into();
            assert_json_snapshot!("key_package", BTreeMap::from([(algorithm, key)]));
            let stored = alice.store().key_package(&reference).await.unwrap().unwrap();
            assert_eq!(stored.package.last_resort, last_resort);
        }
    }
}

#[test]
fn what_is_known_of_a_room_is_stored_like_this() {
    let alice: OwnedUserId = user_id!("@alice:example.org").to_owned();
    let device =
        Device { user_id: alice.to_string(), device_id: "PHONE".to_owned(), device_key: [5; 32] };
    let node = NodeId::from_bytes([1; 32]);
    let view = RoomView {
        mls_since: Some(MlsSince {
            algorithm: matrix_dmls::ALGORITHM.to_owned(),
            sender: alice.clone(),
        }),
        downgraded: true,
        downgrade_attempt: Some(OwnedEventId::try_from("$attempt").unwrap()),
        creator: Some(alice.clone()),
        members: BTreeMap::from([
            (alice.clone(), MembershipState::Join),
            (user_id!("@bob:example.org").to_owned(), MembershipState::Ban),
        ]),
        members_complete: true,
        history_visibility: Some(HistoryVisibility::Invited),
        rotation_period_ms: Some(604_800_000),
        rotation_period_msgs: Some(100),
        group: Some((alice, GroupEventContent::new(node, InstanceId::from_bytes([2; 32])))),
        group_since: 1_600_000_000_001,
        group_event: Some((event_id!("$group").to_owned(), 1_600_000_000_000)),
        power: crate::room::GroupPower {
            creators: [user_id!("@alice:example.org").to_owned()].into(),
            levels: Some((100, [user_id!("@bob:example.org").to_owned()].into())),
            everybody: false,
        },
        commit_power: crate::room::GroupPower { everybody: true, ..Default::default() },
        commits_refused_until: 1_600_000_000_000,
        refused: vec![node],
        must_update: true,
        updated_at: 1_600_000_000_001,
        failed_claims: BTreeMap::from([("@bob:example.org OLD".to_owned(), 1_600_000_000_002)]),
        verdicts: BTreeMap::from([(device, Verdict::CrossSigned)]),
        entrance: Some(node),
        standing: Standing {
            left_behind: Some((node, 1_600_000_000_003)),
            justified: Some(node),
            away_until: Some(1_600_000_000_008),
            objections: vec![(node, 2)],
            repairs: vec![(node, 1_600_000_000_004)],
        },
        behind: Some(Behind {
            looked_back_at: 0,
            since: Some(1_600_000_000_003),
            tries: 2,
            tried_at: 1_600_000_000_004,
            external: true,
            has_tried_external: true,
            tip: Some(node),
            wants_to_send: true,
            not_before: 1_600_000_000_005,
            key_packages: BTreeMap::from([(
                "@bob:example.org LAPTOP".to_owned(),
                (KeyPackageRef::from_bytes([3; 32]), 1_600_000_000_006),
            )]),
        }),
        join_requests: Vec::new(),
        let_in: BTreeMap::from([("@bob:example.org OLD".to_owned(), 1_600_000_000_007)]),
        gaps: gaps(),
        keys: keys(),
        files: vec![WaitingFile {
            file: MediaFile::new(owned_mxc_uri!("mxc://example.org/file"), &[1, 2, 3]),
            event_id: event_id!("$commit").to_owned(),
            sender: user_id!("@bob:example.org").to_owned(),
            since: 1_600_000_000_009,
        }],
        deserted: vec![NodeId::from_bytes([8; 32])],
        anchors: vec![(NodeId::from_bytes([7; 32]), 1_600_000_000_008)],
        foundings: foundings(),
    };
    assert_json_snapshot!("room_view", view);
    let json = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<RoomView>(&json).unwrap(), view);
    let empty = RoomView::default();
    let json = serde_json::to_string(&empty).unwrap();
    assert_eq!(serde_json::from_str::<RoomView>(&json).unwrap(), empty);
}

fn foundings() -> Foundings {
    let bob = user_id!("@bob:example.org").to_owned();
    let (node, instance) = (NodeId::from_bytes([8; 32]), InstanceId::from_bytes([4; 32]));
    let content = GroupEventContent::new(node, instance);
    Foundings {
        other: Some(OtherGroup {
            sender: bob.clone(),
            content: content.clone(),
            since: 1_600_000_000_001,
            agreed: true,
            told: Some(Obstacle::OthersAreThere),
        }),
        anew: Some(Anew { node: NodeId::from_bytes([9; 32]), instead_of: Some((bob, content)) }),
        anew_at: 1_600_000_000_002,
        left: vec![InstanceId::from_bytes([5; 32])],
    }
}

fn keys() -> KeyRequests {
    let (node, bob) = (NodeId::from_bytes([1; 32]), user_id!("@bob:example.org").to_owned());
    let wanted = WantedKey {
        open: true,
        since: 1_600_000_000_001,
        tries: 2,
        early: 1,
        tried_at: 1_600_000_000_002,
        next: 1_600_000_000_003,
        asked_on: Some(NodeId::from_bytes([2; 32])),
        given: [bob.clone()].into(),
        speakers: [bob.clone()].into(),
    };
    let request = KeyRequest {
        id: "request".to_owned(),
        asked: bob.clone(),
        at: 1_600_000_000_002,
        nodes: vec![node],
        secret: Secret::from_bytes([3; 32]),
    };
    let spare = SpareKey {
        at: 1_600_000_000_004,
        has_read: true,
        group_context: vec![4; 5].into(),
        encryption_secret: Secret::from_bytes([5; 32]),
        sender_data_secret: Secret::from_bytes([6; 32]),
    };
    KeyRequests {
        wanted: [(node, wanted)].into(),
        open: vec![request],
        asked: vec![(bob, 1_600_000_000_002)],
        spare: [(NodeId::from_bytes([4; 32]), vec![spare])].into(),
    }
}

fn gaps() -> Gaps {
    let gap = Gap {
        named_by: user_id!("@bob:example.org").to_owned(),
        device: Some("LAPTOP".into()),
        hint: Some(OwnedEventId::try_from("$hint").unwrap()),
        hops: 1,
        needed: true,
        since: 1_600_000_000_003,
        searched: true,
        tries: 2,
        next: 1_600_000_000_004,
    };
    let node = |byte| NodeId::from_bytes([byte; 32]);
    let request = GraphRequest {
        id: "request".to_owned(),
        asked: user_id!("@bob:example.org").to_owned(),
        at: 1_600_000_000_005,
        answered: false,
    };
    Gaps {
        nodes: BTreeMap::from([(node(3), gap)]),
        walk: Some(Walk {
            from: Some("t1-2".to_owned()),
            pages: 3,
            failures: 1,
            for_entrance: false,
        }),
        requests: vec![request],
        relays: BTreeMap::from([(node(4), 1_600_000_000_006)]),
        relayed: BTreeMap::from([(node(5), 1_600_000_000_007)]),
    }
}
