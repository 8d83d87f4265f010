//! Requests out, responses in.

use std::collections::{BTreeMap, VecDeque};

use matrix_dmls::NodeId;
use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId, TransactionId,
    api::client::{
        keys::claim_keys, message::send_message_event, room::get_room_event,
        state::send_state_event, to_device::send_event_to_device,
    },
    events::{
        AnyMessageLikeEventContent, AnyStateEventContent, AnyToDeviceEventContent,
        StaticEventContent,
    },
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tracing::{instrument, warn};

use super::{
    DeviceName, MlsMachine, Room,
    again::again,
    files::{Files, read_id, uploads},
    key_packages::{ServerCounts, Upload, algorithm},
    membership::{Addition, CLAIM_PAUSE},
    retention::Schedule,
};
use crate::{
    error::MlsError,
    notice::Notice,
    store::{Changes, OutboxRequest, OutboxRequestKind},
    types::events::{
        CommitEventContent, GroupEventContent, ToDeviceJoinRequestEventContent,
        ToDeviceWelcomeEventContent,
    },
    types::requests::{AnyIncomingResponse, AnyOutgoingRequest, OutgoingRequest, RequestFailure},
};

/// How long no commit of ours is tried in a room after the server has refused one: 10 minutes.
const REFUSED_PAUSE: u64 = 10 * 60 * 1000;

/// So many refused commits of a room are kept, the youngest, should the server have lied.
const MAX_REFUSED: usize = 8;

/// How long devices are not asked for key packages again whose server could not be reached: a minute.
const UNREACHABLE_PAUSE: u64 = 60 * 1000;

/// At most this many events are being fetched at once.
const MAX_FETCHES: usize = 100;

/// At most this many events are remembered for a room until we are in its group, the youngest ones.
const MAX_NAMED: usize = 32;

/// How long an event is not asked for again that the server did not give, in milliseconds: a minute,
/// then twice as long each time, up to an hour.
const FETCH_PAUSE: u64 = 60 * 1000;
const MAX_FETCH_PAUSE: u64 = 60 * FETCH_PAUSE;

/// The same for one that the server did give, should it be wanted again: what came was of no use then,
/// and may stay so. Ten seconds, then twice as long each time, up to an hour.
const FETCH_AGAIN_PAUSE: u64 = 10 * 1000;

/// What need not be stored: after a restart it is asked for again.
#[derive(Default)]
pub(super) struct Transient {
    pub(super) counts: ServerCounts,
    pub(super) upload: Option<Upload>,
    claims: BTreeMap<OwnedRoomId, Claim>,
    /// Key packages of other devices, not used yet.
    pub(super) claimed: BTreeMap<DeviceName, Vec<u8>>,
    fetches: BTreeMap<OwnedEventId, Fetch>,
    /// Events that were named in rooms whose group we are not in yet.
    named: BTreeMap<OwnedRoomId, VecDeque<OwnedEventId>>,
    last_order: u64,
    pub(super) schedule: Schedule,
    /// When it is our turn to stand up for a room, in milliseconds since 1970.
    pub(super) standing: BTreeMap<OwnedRoomId, u64>,
    /// By room, the commit that was tried again last, in vain.
    pub(super) retried: BTreeMap<OwnedRoomId, NodeId>,
    pub(super) anchors: BTreeMap<OwnedRoomId, super::anchor::Turn>,
    /// When we are to try to get into a room, or to let others in, in milliseconds since 1970.
    pub(super) returns: BTreeMap<OwnedRoomId, u64>,
    /// The pages of rooms' histories that are being asked for.
    pub(super) pages: BTreeMap<OwnedRoomId, super::backfill::Page>,
    /// When the youngest event of a room was sent that has come since the start, by its server's clock,
    /// in milliseconds since 1970.
    pub(super) youngest: BTreeMap<OwnedRoomId, u64>,
    /// When something is due about what is missing in a room, in milliseconds since 1970.
    pub(super) gaps: BTreeMap<OwnedRoomId, u64>,
    /// Files that are asked for.
    pub(super) files: Files,
    pub(super) answered: super::questions::Answered,
    /// Requests for epoch keys that may have come before the room's events.
    pub(super) key_requests: Vec<super::key_requests::HeldKeyRequest>,
    /// Since when a room waits for its members' device lists, in milliseconds since 1970.
    pub(super) waiting_for_devices: BTreeMap<OwnedRoomId, u64>,
}

struct Claim {
    id: OwnedTransactionId,
    devices: Vec<DeviceName>,
}

struct Fetch {
    id: OwnedTransactionId,
    room_id: OwnedRoomId,
    tries: u32,
    /// Not asked for again until something else happens, and not before this time.
    resting: bool,
    rests_until: u64,
    /// Somebody has the request and may answer it.
    handed_out: bool,
}

impl Fetch {
    /// It is not asked for again for so long, in milliseconds; twice as long each time.
    fn rest(&mut self, now: u64, pause: u64) {
        let pause = pause.saturating_mul(1 << self.tries.min(16));
        self.tries = self.tries.saturating_add(1);
        self.resting = true;
        self.rests_until = now.saturating_add(pause.min(MAX_FETCH_PAUSE));
    }
}

impl Transient {
    /// Asks for the key packages of devices. While a claim of the room is under way nothing is added.
    pub(super) fn claim(&mut self, room_id: &ruma::RoomId, devices: Vec<DeviceName>) {
        self.claims
            .entry(room_id.to_owned())
            .or_insert_with(|| Claim { id: TransactionId::new(), devices });
    }

    /// Takes the key packages out, all of them or none: each is used for one commit only, whatever
    /// becomes of that. Gives the place of one that is not there any more.
    pub(super) fn use_up(&mut self, additions: &[Addition]) -> Option<usize> {
        let is_there = |addition: &Addition| {
            addition.requested
                || self
                    .claimed
                    .get(&addition.name)
                    .is_some_and(|bytes| *bytes == addition.key_package)
        };
        let used = additions.iter().position(|addition| !is_there(addition));
        if used.is_none() {
            for addition in additions.iter().filter(|addition| !addition.requested) {
                self.claimed.remove(&addition.name);
            }
        }
        used
    }

    /// Whether a claim of the room is under way.
    pub(super) fn is_claiming(&self, room_id: &ruma::RoomId) -> bool {
        self.claims.contains_key(room_id)
    }

    /// Asks for an event that is missing here, unless the server was asked for it a short while ago: it
    /// may get it later, or what it gave may be of use later.
    pub(super) fn fetch(&mut self, room_id: &ruma::RoomId, event_id: &ruma::EventId, now: u64) {
        if let Some(fetch) = self.fetches.get_mut(event_id) {
            fetch.resting &= now < fetch.rests_until;
            return;
        }
        if self.fetches.len() >= MAX_FETCHES {
            // What may be asked for again first makes room.
            let resting = self.fetches.iter().filter(|(_, fetch)| fetch.resting);
            let first = resting.min_by_key(|(_, fetch)| fetch.rests_until);
            let Some(first) = first.map(|(event_id, _)| event_id.clone()) else { return };
            self.fetches.remove(&first);
        }
        let fetch = Fetch {
            id: TransactionId::new(),
            room_id: room_id.to_owned(),
            tries: 0,
            resting: false,
            rests_until: 0,
            handed_out: false,
        };
        self.fetches.insert(event_id.to_owned(), fetch);
    }

    /// Remembers an event that somebody has named, to ask for it when we are in the group.
    pub(super) fn fetch_later(&mut self, room_id: &ruma::RoomId, event_id: &ruma::EventId) {
        let named = self.named.entry(room_id.to_owned()).or_default();
        if named.iter().any(|known| known == event_id) {
            return;
        }
        if named.len() >= MAX_NAMED {
            named.pop_front();
        }
        named.push_back(event_id.to_owned());
    }

    /// We are in the group: what was named before is asked for, unless it has come meanwhile.
    pub(super) fn fetch_named(&mut self, room: &Room, now: u64) {
        for event_id in self.named.remove(&room.id).unwrap_or_default() {
            if room.commit_events.values().all(|known| *known != event_id) {
                self.fetch(&room.id, &event_id, now);
            }
        }
    }

    /// An event that may have been asked for has come by itself.
    pub(super) fn has_come(&mut self, event_id: &ruma::EventId) {
        let Some(fetch) = self.fetches.get_mut(event_id) else { return };
        if fetch.handed_out {
            fetch.resting = true;
        } else {
            self.fetches.remove(event_id);
        }
    }

    /// Whether an event is being asked for.
    pub(super) fn is_asked_for(&self, event_id: &ruma::EventId) -> bool {
        self.fetches.get(event_id).is_some_and(|fetch| !fetch.resting)
    }

    /// Whether an event of the room is being asked for.
    pub(super) fn is_fetching(&self, room_id: &ruma::RoomId) -> bool {
        self.pages.contains_key(room_id)
            || self.files.is_fetching(room_id)
            || self.fetches.values().any(|fetch| fetch.room_id == room_id && !fetch.resting)
    }

    /// Orders requests as they were made, also those of one millisecond.
    pub(super) fn next_order(&mut self, now: u64) -> u64 {
        self.last_order = now.max(self.last_order + 1);
        self.last_order
    }
}

impl MlsMachine {
    /// Everything that should be sent now, in this order. A request that was not answered stays in
    /// it, under the same ID, also after a restart. Call it after every sync, and at
    /// [`MlsMachine::next_deadline`].
    ///
    /// # Errors
    ///
    /// When a store fails.
    #[instrument(skip_all)]
    pub async fn outgoing_requests(&self) -> Result<Vec<OutgoingRequest>, MlsError> {
        Box::pin(self.do_what_is_due()).await?;
        let mut requests = Vec::new();
        requests.extend(again!(self.key_package_upload())?);
        for request in self.inner.store.outbox().await? {
            let uploads = uploads(&request, self.inner.max_content)?;
            if uploads.is_empty() {
                requests.push(to_outgoing(request)?);
            } else {
                requests.extend(uploads);
            }
        }
        requests.extend(self.page_requests());
        let mut transient = self.transient();
        requests.extend(transient.files.requests(self.now()));
        requests.extend(transient.claims.iter().map(|(room_id, claim)| {
            let mut keys = BTreeMap::new();
            for (user_id, device_id) in &claim.devices {
                let user: &mut BTreeMap<_, _> = keys.entry(user_id.clone()).or_default();
                user.insert(device_id.clone(), algorithm());
            }
            OutgoingRequest {
                request_id: claim.id.clone(),
                room_id: Some(room_id.clone()),
                request: AnyOutgoingRequest::KeysClaim(claim_keys::v3::Request::new(keys)),
            }
        }));
        requests.extend(transient.fetches.iter_mut().filter(|(_, fetch)| !fetch.resting).map(
            |(event_id, fetch)| {
                fetch.handed_out = true;
                let (room_id, event_id) = (fetch.room_id.clone(), event_id.clone());
                OutgoingRequest {
                    request_id: fetch.id.clone(),
                    room_id: Some(room_id.clone()),
                    request: AnyOutgoingRequest::RoomEvent(get_room_event::v3::Request::new(
                        room_id, event_id,
                    )),
                }
            },
        ));
        Ok(requests)
    }

    /// The server has answered a request.
    ///
    /// # Errors
    ///
    /// When a store fails (call again), or there is no such request or its response is of another
    /// kind (nothing has changed). That a commit was answered which a sync has shown before is no
    /// error.
    #[instrument(skip_all, fields(request_id))]
    pub async fn mark_request_as_sent<'a>(
        &self,
        request_id: &TransactionId,
        response: impl Into<AnyIncomingResponse<'a>>,
    ) -> Result<(), MlsError> {
        match response.into() {
            AnyIncomingResponse::KeysUpload(response) => {
                if self.transient().upload.as_ref().is_none_or(|upload| upload.id != request_id) {
                    return Err(MlsError::UnknownRequest);
                }
                again!(self.uploaded(response))
            }
            AnyIncomingResponse::KeysClaim(response) => self.claimed(request_id, response).await,
            AnyIncomingResponse::RoomEvent(response) => {
                let found = self.find_fetch(request_id).ok_or(MlsError::UnknownRequest)?;
                self.receive_fetched(&found.0, &response.event).await?;
                let now = self.now();
                if let Some(fetch) = self.transient().fetches.get_mut(&found.1) {
                    fetch.id = TransactionId::new();
                    fetch.handed_out = false;
                    fetch.rest(now, FETCH_AGAIN_PAUSE);
                }
                self.mind_gaps_of(&found.0).await
            }
            AnyIncomingResponse::RoomMessages(response) => {
                self.receive_page(request_id, response).await
            }
            AnyIncomingResponse::MediaUpload(response) => {
                self.uploaded_file(request_id, response).await
            }
            AnyIncomingResponse::MediaDownload(response) => {
                self.downloaded(request_id, &response.file).await
            }
            AnyIncomingResponse::RoomMessage(response) => {
                let request = match self.outbox_request(request_id).await {
                    // A sync was faster and has shown the commit's event.
                    Err(MlsError::UnknownRequest) => return Ok(()),
                    request => request?,
                };
                let node = match request.kind {
                    OutboxRequestKind::Commit { node, .. } => node,
                    OutboxRequestKind::Relay { .. } => return self.forget(request_id).await,
                    _ => return Err(MlsError::WrongResponse),
                };
                again!(async {
                    let mut guard = self.lock_room(&request.room_id).await?;
                    let Some(room) = guard.as_mut() else { return Err(MlsError::UnknownRequest) };
                    Box::pin(self.accepted(room, node, response.event_id.clone())).await?;
                    // Others may have been faster than this answer and have gone on from here.
                    Box::pin(self.take_waiting(room, node)).await?;
                    self.look_ahead(room).await
                })
            }
            AnyIncomingResponse::ToDevice(_) => {
                let request = self.outbox_request(request_id).await?;
                if !matches!(
                    request.kind,
                    OutboxRequestKind::Welcome { .. }
                        | OutboxRequestKind::JoinRequest { .. }
                        | OutboxRequestKind::ToDevice { .. }
                ) {
                    return Err(MlsError::WrongResponse);
                }
                self.forget(request_id).await
            }
            AnyIncomingResponse::RoomState(_) => {
                let request = self.outbox_request(request_id).await?;
                if !matches!(request.kind, OutboxRequestKind::Group { .. }) {
                    return Err(MlsError::WrongResponse);
                }
                self.forget(request_id).await
            }
        }
    }

    /// A request has failed.
    ///
    /// A commit whose fate is unknown stays, to be sent again under the same transaction ID; one
    /// that the server has refused is given up (protocol §5).
    ///
    /// # Errors
    ///
    /// When a store fails, or there is no such request.
    #[instrument(skip_all, fields(request_id))]
    pub async fn mark_request_as_failed(
        &self,
        request_id: &TransactionId,
        failure: RequestFailure,
    ) -> Result<(), MlsError> {
        if let Some(room_id) = self.find_page(request_id) {
            return self.page_failed(&room_id).await;
        }
        if let Some((room_id, event_id)) = self.find_fetch(request_id) {
            let now = self.now();
            if let Some(fetch) = self.transient().fetches.get_mut(&event_id)
                && failure == RequestFailure::Refused
            {
                fetch.rest(now, FETCH_PAUSE);
            }
            return self.mind_gaps_of(&room_id).await;
        }
        let download = self.transient().files.find(request_id);
        if let Some((room_id, _)) = download {
            if failure == RequestFailure::Refused {
                self.transient().files.has_failed(request_id, self.now());
            }
            return self.mind_gaps_of(&room_id).await;
        }
        if failure == RequestFailure::Unknown {
            return Ok(());
        }
        let claim = {
            let mut transient = self.transient();
            let room_id = transient
                .claims
                .iter()
                .find(|(_, claim)| claim.id == request_id)
                .map(|(r, _)| r.clone());
            room_id.and_then(|room_id| Some((room_id.clone(), transient.claims.remove(&room_id)?)))
        };
        if let Some((room_id, claim)) = claim {
            let failed =
                claim.devices.into_iter().map(|name| (name, "the claim was refused".to_owned()));
            return self.note_failed_claims(&room_id, failed.collect(), CLAIM_PAUSE).await;
        }
        if self.transient().upload.as_ref().is_some_and(|upload| upload.id == request_id) {
            warn!("The server refuses our key packages");
            let mut transient = self.transient();
            transient.upload = None;
            // Not again before a sync says that they are still missing.
            transient.counts.refused = true;
            return Ok(());
        }
        let request_id = &*match read_id(request_id) {
            None => request_id.to_owned(),
            Some(upload) => match self.upload_refused(upload).await? {
                Some(id) => id,
                None => return Ok(()),
            },
        };
        let request = self.outbox_request(request_id).await?;
        if let OutboxRequestKind::Group { content } = &request.kind {
            warn!(?request.room_id, "The server does not let us name the room's group");
            return self.naming_refused(&request.room_id, request_id, content).await;
        }
        let OutboxRequestKind::Commit { node, .. } = request.kind else {
            // Others can still let the recipients in.
            warn!(?request.room_id, "The server refuses something that others can do too");
            return self.forget(request_id).await;
        };
        again!(async {
            let mut guard = self.lock_room(&request.room_id).await?;
            let Some(room) = guard.as_mut() else { return Err(MlsError::UnknownRequest) };
            let mut changes = Changes::default();
            changes.outbox.insert(request_id.to_owned(), None);
            let mut view = room.view.clone();
            view.commits_refused_until = self.now() + REFUSED_PAUSE;
            // Its state stays as long as its parent's: a server can lie about the refusal.
            view.refused.retain(|refused| room.group.pending_commit(refused).is_some());
            view.refused.push(node);
            let too_many = view.refused.len().saturating_sub(MAX_REFUSED);
            for oldest in view.refused.drain(..too_many) {
                changes.room(&request.room_id).group.extend(room.group.discard(oldest));
            }
            changes.room(&request.room_id).view = Some(view);
            self.save(room, changes).await?;
            self.look_ahead(room).await
        })?;
        self.notify(Notice::CommitRefused { room_id: request.room_id, node });
        Ok(())
    }

    async fn claimed(
        &self,
        request_id: &TransactionId,
        response: &claim_keys::v3::Response,
    ) -> Result<(), MlsError> {
        let (room_id, devices) = {
            let transient = self.transient();
            let claim = transient.claims.iter().find(|(_, claim)| claim.id == request_id);
            let (room_id, claim) = claim.ok_or(MlsError::UnknownRequest)?;
            (room_id.clone(), claim.devices.clone())
        };
        let failed = self.take_claimed(&devices, response).await?;
        let outdated = self.note_seqs(&room_id, &devices).await?;
        self.transient().claims.remove(&room_id);
        // That a server could not be reached says nothing about its users' devices.
        let is_unreachable = |(name, _): &(DeviceName, String)| {
            response.failures.contains_key(name.0.server_name().as_str())
        };
        let (unreachable, failed): (Vec<_>, _) = failed.into_iter().partition(is_unreachable);
        self.note_failed_claims(&room_id, failed, CLAIM_PAUSE).await?;
        // Those of the new key come when the old ones are used up.
        let soon = unreachable.into_iter().chain(outdated).collect();
        self.note_failed_claims(&room_id, soon, UNREACHABLE_PAUSE).await
    }

    pub(super) async fn note_failed_claims(
        &self,
        room_id: &ruma::RoomId,
        failed: Vec<(DeviceName, String)>,
        pause: u64,
    ) -> Result<(), MlsError> {
        if failed.is_empty() {
            return Ok(());
        }
        again!(async {
            let mut guard = self.lock_room(room_id).await?;
            let Some(room) = guard.as_mut() else { return Ok(()) };
            self.note_without_mls_for(room, failed.clone(), pause).await
        })
    }

    /// Remembers which devices cannot be added for now, and tells the application.
    pub(super) async fn note_without_mls(
        &self,
        room: &mut Room,
        failed: Vec<(DeviceName, String)>,
    ) -> Result<(), MlsError> {
        self.note_without_mls_for(room, failed, CLAIM_PAUSE).await
    }

    /// The same, to be tried again after a pause in milliseconds, [`CLAIM_PAUSE`] at most.
    async fn note_without_mls_for(
        &self,
        room: &mut Room,
        failed: Vec<(DeviceName, String)>,
        pause: u64,
    ) -> Result<(), MlsError> {
        let mut view = room.view.clone();
        // What is kept is when the claim failed, as if that had been longer ago for a shorter pause.
        let at = self.now().saturating_sub(CLAIM_PAUSE.saturating_sub(pause));
        for ((user_id, device_id), _) in &failed {
            view.failed_claims.insert(format!("{user_id} {device_id}"), at);
        }
        let mut changes = Changes::default();
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await?;
        for ((user_id, device_id), reason) in failed {
            let room_id = room.id.clone();
            self.notify(Notice::DeviceWithoutMls { room_id, user_id, device_id, reason });
        }
        Ok(())
    }

    fn find_fetch(&self, request_id: &TransactionId) -> Option<(OwnedRoomId, OwnedEventId)> {
        let transient = self.transient();
        let found = transient.fetches.iter().find(|(_, fetch)| fetch.id == request_id);
        found.map(|(event_id, fetch)| (fetch.room_id.clone(), event_id.clone()))
    }

    pub(super) async fn outbox_request(
        &self,
        request_id: &TransactionId,
    ) -> Result<OutboxRequest, MlsError> {
        let outbox = self.inner.store.outbox().await?;
        outbox.into_iter().find(|request| request.id == request_id).ok_or(MlsError::UnknownRequest)
    }

    /// The request under which a commit of ours is being sent.
    pub(super) async fn commit_request(
        &self,
        room_id: &ruma::RoomId,
        node: Option<NodeId>,
    ) -> Result<Option<OutboxRequest>, MlsError> {
        let outbox = self.inner.store.outbox().await?;
        Ok(outbox.into_iter().find(|request| {
            request.room_id == room_id
                && matches!(&request.kind, OutboxRequestKind::Commit { node: of, .. }
                    if node.is_none_or(|node| node == *of))
        }))
    }

    async fn forget(&self, request_id: &TransactionId) -> Result<(), MlsError> {
        let mut changes = Changes::default();
        changes.outbox.insert(request_id.to_owned(), None);
        Ok(self.inner.store.save_changes(changes).await?)
    }
}

fn raw<T>(content: &impl Serialize) -> Result<Raw<T>, MlsError> {
    Ok(Raw::from_json(to_raw_value(content)?))
}

fn to_outgoing(request: OutboxRequest) -> Result<OutgoingRequest, MlsError> {
    let OutboxRequest { id, room_id, kind, .. } = request;
    let any = match kind {
        OutboxRequestKind::Commit { content, .. } | OutboxRequestKind::Relay { content, .. } => {
            let content: Raw<AnyMessageLikeEventContent> = raw(&content.to_be_sent())?;
            AnyOutgoingRequest::RoomMessage(send_message_event::v3::Request::new_raw(
                room_id.clone(),
                id.clone(),
                CommitEventContent::TYPE.into(),
                content,
            ))
        }
        OutboxRequestKind::Welcome { messages } => {
            to_devices::<ToDeviceWelcomeEventContent>(id.clone(), messages)?
        }
        OutboxRequestKind::JoinRequest { messages } => {
            to_devices::<ToDeviceJoinRequestEventContent>(id.clone(), messages)?
        }
        OutboxRequestKind::ToDevice { event_type, messages } => {
            let mut all = send_event_to_device::v3::Messages::new();
            for (user_id, device_id, content) in messages {
                let content = Raw::from_json(RawValue::from_string(content)?);
                all.entry(user_id)
                    .or_default()
                    .insert(DeviceIdOrAllDevices::DeviceId(device_id), content);
            }
            AnyOutgoingRequest::ToDevice(send_event_to_device::v3::Request::new_raw(
                event_type.into(),
                id.clone(),
                all,
            ))
        }
        OutboxRequestKind::Group { content } => {
            let content: Raw<AnyStateEventContent> = raw(&content)?;
            AnyOutgoingRequest::RoomState(send_state_event::v3::Request::new_raw(
                room_id.clone(),
                GroupEventContent::TYPE.into(),
                String::new(),
                content,
            ))
        }
    };
    Ok(OutgoingRequest { request_id: id, room_id: Some(room_id), request: any })
}

fn to_devices<T: StaticEventContent + Serialize>(
    id: OwnedTransactionId,
    messages: Vec<(OwnedUserId, OwnedDeviceId, T)>,
) -> Result<AnyOutgoingRequest, MlsError> {
    let mut all = send_event_to_device::v3::Messages::new();
    for (user_id, device_id, content) in messages {
        let content: Raw<AnyToDeviceEventContent> = raw(&content)?;
        all.entry(user_id).or_default().insert(DeviceIdOrAllDevices::DeviceId(device_id), content);
    }
    Ok(AnyOutgoingRequest::ToDevice(send_event_to_device::v3::Request::new_raw(
        T::TYPE.into(),
        id,
        all,
    )))
}
