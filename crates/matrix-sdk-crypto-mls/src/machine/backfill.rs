//! Missed commits out of the room's history, page by page, youngest first (protocol §10).

use matrix_dmls::{CommitMessage, NodeId};
use ruma::{
    OwnedRoomId, OwnedTransactionId, TransactionId,
    api::client::{filter::RoomEventFilter, message::get_message_events},
    events::{AnyTimelineEvent, StaticEventContent},
    serde::Raw,
    uint,
};
use tracing::debug;

use super::{MlsMachine, Room, again::again, gaps::WINDOW, room_events::EventHead};
use crate::{
    error::MlsError,
    room::{Behind, Walk},
    store::Changes,
    types::{
        events::CommitEventContent,
        requests::{AnyOutgoingRequest, OutgoingRequest},
    },
};

/// At most this many pages of 100 commits are read in one go.
const MAX_PAGES: u32 = 100;

/// The same for a device that has no commit and looks where the group is: the youngest ones show that.
const MAX_ENTRANCE_PAGES: u32 = 2;

/// A device that has no commit looks for one so often at most, in milliseconds.
const LOOK_BACK_PAUSE: u64 = 3600 * 1000;

/// After so many requests that have failed, the server is taken not to have what is missing.
const MAX_FAILURES: u32 = 5;

/// At most this many events of a page are looked at, should the server send more than it was asked
/// for.
const MAX_PAGE_EVENTS: usize = 1000;

/// The longest name of a place in the history that is given back to the server, in bytes.
const MAX_TOKEN: usize = 4096;

/// A page that is being asked for.
pub(super) struct Page {
    id: OwnedTransactionId,
    from: Option<String>,
}

/// From the end of the timeline.
pub(super) const fn begin() -> Walk {
    Walk { from: None, pages: 0, failures: 0, for_entrance: false }
}

impl MlsMachine {
    /// Notes which page is to be asked for. After a restart it is the one that was asked for last.
    pub(super) fn plan_walk(&self, room: &Room) {
        let mut transient = self.transient();
        let Some(walk) = &room.view.gaps.walk else {
            transient.pages.remove(&room.id);
            return;
        };
        if transient.pages.get(&room.id).is_none_or(|page| page.from != walk.from) {
            let page = Page { id: TransactionId::new(), from: walk.from.clone() };
            transient.pages.insert(room.id.clone(), page);
        }
    }

    pub(super) fn page_requests(&self) -> Vec<OutgoingRequest> {
        let transient = self.transient();
        let requests = transient.pages.iter().map(|(room_id, page)| {
            let mut request = get_message_events::v3::Request::backward(room_id.clone());
            request.from.clone_from(&page.from);
            request.limit = uint!(100);
            let mut filter = RoomEventFilter::default();
            filter.types = Some(vec![CommitEventContent::TYPE.to_owned()]);
            request.filter = filter;
            OutgoingRequest {
                request_id: page.id.clone(),
                room_id: Some(room_id.clone()),
                request: AnyOutgoingRequest::RoomMessages(request),
            }
        });
        requests.collect()
    }

    /// The room whose page a request is for.
    pub(super) fn find_page(&self, request_id: &TransactionId) -> Option<OwnedRoomId> {
        let transient = self.transient();
        let found = transient.pages.iter().find(|(_, page)| page.id == request_id);
        found.map(|(room_id, _)| room_id.clone())
    }

    /// A page has come.
    pub(super) async fn receive_page(
        &self,
        request_id: &TransactionId,
        response: &get_message_events::v3::Response,
    ) -> Result<(), MlsError> {
        let room_id = self.find_page(request_id).ok_or(MlsError::UnknownRequest)?;
        again!(async {
            let mut guard = self.lock_room(&room_id).await?;
            let Some(room) = guard.as_mut() else { return Ok(()) };
            self.take_page(room, response).await
        })
    }

    async fn take_page(
        &self,
        room: &mut Room,
        response: &get_message_events::v3::Response,
    ) -> Result<(), MlsError> {
        let Some(mut walk) = room.view.gaps.walk.clone() else {
            self.plan_walk(room);
            return Ok(());
        };
        let heads: Vec<_> =
            response.chunk.iter().take(MAX_PAGE_EVENTS).filter_map(read_commit).collect();
        self.has_come_of(&room.id, heads.iter().filter_map(EventHead::sent_at).max());
        // The server's clock says how far back we are; the number of pages ends it in any case.
        let is_old =
            heads.last().is_some_and(|head| self.is_older(&room.id, head.sent_at(), WINDOW));
        let nodes: Vec<_> = heads.iter().filter_map(node_of).collect();
        // Those that wait for their parents are news too: what they wait for lies further back.
        let is_known = |node: &NodeId| room.group.graph().contains(node);
        let nothing_new = !nodes.is_empty() && nodes.iter().all(is_known);
        // Oldest first, so that most find their parent.
        for head in heads.iter().rev() {
            Box::pin(self.receive_commit(room, head)).await?;
        }
        Box::pin(self.try_to_join(room)).await?;

        walk.pages += 1;
        let most = if walk.for_entrance { MAX_ENTRANCE_PAGES } else { MAX_PAGES };
        let next = response.end.clone().filter(|end| {
            end.len() <= MAX_TOKEN && walk.from.as_ref() != Some(end) && walk.pages < most
        });
        match next {
            Some(next) if !is_old && !nothing_new => {
                walk.from = Some(next);
                let mut gaps = room.view.gaps.clone();
                gaps.walk = Some(walk);
                self.save_gaps(room, gaps).await?;
            }
            _ => self.end_walk(room).await?,
        }
        self.look_ahead(room).await
    }

    /// Looks in the room's history where the group is, if that was not done within an hour. For a device
    /// that holds no epoch and has no commit: who joins after the last commit is told of none. Gives
    /// whether it begins.
    pub(super) async fn look_back(&self, room: &mut Room) -> Result<bool, MlsError> {
        let now = self.now();
        let Some(behind) = room.view.behind.clone() else { return Ok(false) };
        if room.view.gaps.walk.is_some()
            || !room.commit_events.is_empty()
            || now.saturating_sub(behind.looked_back_at) < LOOK_BACK_PAUSE
        {
            return Ok(false);
        }
        let mut view = room.view.clone();
        view.behind = Some(Behind { looked_back_at: now, ..behind });
        view.gaps.walk = Some(Walk { for_entrance: true, ..begin() });
        let mut changes = Changes::default();
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await?;
        self.plan_walk(room);
        Ok(true)
    }

    /// A page did not come.
    pub(super) async fn page_failed(&self, room_id: &OwnedRoomId) -> Result<(), MlsError> {
        again!(async {
            let mut guard = self.lock_room(room_id).await?;
            let Some(room) = guard.as_mut() else { return Ok(()) };
            let mut gaps = room.view.gaps.clone();
            if let Some(walk) = &mut gaps.walk {
                walk.failures += 1;
                if walk.failures < MAX_FAILURES {
                    self.save_gaps(room, gaps).await?;
                } else {
                    debug!(%room_id, "The server does not give the room's history");
                    self.end_walk(room).await?;
                }
            }
            self.mind_gaps(room).await
        })
    }

    /// The history does not have what is still missing.
    async fn end_walk(&self, room: &mut Room) -> Result<(), MlsError> {
        let mut gaps = room.view.gaps.clone();
        gaps.walk = None;
        let now = self.now();
        for gap in gaps.nodes.values_mut().filter(|gap| !gap.searched) {
            gap.searched = true;
            gap.next = now;
        }
        self.save_gaps(room, gaps).await
    }
}

fn read_commit(event: &Raw<AnyTimelineEvent>) -> Option<EventHead> {
    let head = EventHead::read(event.json().get())?;
    (head.event_type == CommitEventContent::TYPE && head.state_key.is_none()).then_some(head)
}

fn node_of(head: &EventHead) -> Option<NodeId> {
    let content: CommitEventContent = head.content()?;
    CommitMessage::parse(&content.commit?.0).ok().map(|message| message.node_id())
}
