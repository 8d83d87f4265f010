//! What happens on the network.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
#[cfg(feature = "mls")]
use futures_util::StreamExt as _;
#[cfg(not(feature = "mls"))]
use matrix_sdk::send_queue::{LocalEcho, LocalEchoContent, RoomSendQueue, SendHandle};
use matrix_sdk::{
    RoomState,
    config::SyncSettings,
    room::{
        edit::EditedContent,
        reply::{EnforceThread, Reply},
    },
    ruma::{
        OwnedEventId, RoomId,
        api::client::room::create_room,
        events::{
            AnyMessageLikeEventContent, InitialStateEvent,
            room::{
                encryption::RoomEncryptionEventContent,
                message::{AddMentions, RoomMessageEventContentWithoutRelation},
            },
        },
    },
};
#[cfg(feature = "mls")]
use matrix_sdk_mls::{LocalEcho, RoomSendQueue, SendHandle};
use tokio::{
    sync::{Mutex, Notify, mpsc},
    task::AbortHandle,
    time::sleep,
};

use crate::{
    Client, Room, files,
    open::OpenRoom,
    panels,
    state::{Action, Command, RoomRow, Update},
    verification::Current,
};

/// How long it is waited after a sync has failed.
const PAUSE: Duration = Duration::from_secs(3);

/// How many messages are fetched at once.
const PAGE: u16 = 30;

/// The client, and what runs beside the screen. Everything ends when this is dropped.
pub(crate) struct Backend {
    inner: Arc<Inner>,
    /// What is to be done in its order.
    orders: mpsc::UnboundedSender<Command>,
    tasks: Vec<AbortHandle>,
}

pub(crate) struct Inner {
    pub(crate) client: Client,
    updates: mpsc::UnboundedSender<Update>,
    pub(crate) verification: StdMutex<Option<Current>>,
    open: Mutex<Option<OpenRoom>>,
    /// Something has changed that lists and panels show.
    changed: Notify,
    /// Why messages cannot be read, as far as it was told.
    reasons: StdMutex<BTreeMap<OwnedEventId, String>>,
}

impl Backend {
    pub(crate) fn start(client: Client, updates: mpsc::UnboundedSender<Update>) -> Self {
        let inner = Arc::new(Inner {
            client,
            updates,
            verification: StdMutex::default(),
            open: Mutex::default(),
            changed: Notify::new(),
            reasons: StdMutex::default(),
        });
        inner.listen_for_verifications();
        let (orders, waiting) = mpsc::unbounded_channel();
        let mut backend = Self { inner, orders, tasks: Vec::new() };
        backend.spawn(|inner| inner.obey_in_order(waiting));
        backend.spawn(Inner::sync);
        backend.spawn(Inner::refresh);
        #[cfg(feature = "mls")]
        backend.spawn(Inner::listen);
        backend
    }

    fn spawn<F>(&mut self, task: impl FnOnce(Arc<Inner>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.push(tokio::spawn(task(Arc::clone(&self.inner))).abort_handle());
    }

    /// Does what a command says, beside everything else. What goes wrong is said.
    pub(crate) fn run(&self, command: Command) {
        use Action::{Edit, File, Reply, Send};
        if matches!(command, Command::InRoom(_, Send(_) | Reply(..) | Edit(..) | File(_))) {
            // It can only be gone when all of this is.
            self.orders.send(command).ok();
            return;
        }
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { inner.obey(command).await });
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Inner {
    pub(crate) fn tell(&self, update: Update) {
        // The screen may be gone.
        self.updates.send(update).ok();
    }

    /// Something has changed that lists and panels show.
    pub(crate) fn look_at_everything(&self) {
        self.changed.notify_one();
    }

    /// Why messages cannot be read.
    pub(crate) fn reasons(&self) -> MutexGuard<'_, BTreeMap<OwnedEventId, String>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn obey_in_order(self: Arc<Self>, mut orders: mpsc::UnboundedReceiver<Command>) {
        while let Some(command) = orders.recv().await {
            self.obey(command).await;
        }
    }

    async fn sync(self: Arc<Self>) {
        let settings = SyncSettings::default();
        // What there is already does not wait for something new.
        let mut timeout = Duration::ZERO;
        let mut is_online = true;
        loop {
            match Box::pin(self.client.sync_once(settings.clone().timeout(timeout))).await {
                Ok(_) => {
                    is_online = true;
                    self.tell(Update::Online(true));
                    self.changed.notify_one();
                    // They stop when something could not be sent. With MLS they try again by themselves.
                    #[cfg(not(feature = "mls"))]
                    self.client.send_queue().set_enabled(true).await;
                    timeout = Duration::from_secs(30);
                }
                Err(error) => {
                    self.tell(Update::Online(false));
                    // Once, not every few seconds.
                    if std::mem::replace(&mut is_online, false) {
                        self.tell(Update::Said(format!("! {error}")));
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Brings lists and panels up to date, whenever something has changed.
    async fn refresh(self: Arc<Self>) {
        loop {
            if let Err(error) = Box::pin(self.refresh_once()).await {
                self.tell(Update::Said(format!("! {error:#}")));
            }
            self.changed.notified().await;
        }
    }

    async fn refresh_once(&self) -> Result<()> {
        let mut rooms = Vec::new();
        for room in self.client.rooms() {
            if matches!(room.state(), RoomState::Joined | RoomState::Invited) {
                let name = room.display_name().await?.to_string();
                let mark = panels::mark(&room).await?;
                let unread = room.unread_notification_counts().notification_count;
                rooms.push(RoomRow { id: room.room_id().to_owned(), name, mark, unread });
            }
        }
        rooms.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        self.tell(Update::Rooms(rooms));
        self.tell(Update::Trust(panels::trust(&self.client).await?));
        let open = self.open.lock().await.as_ref().map(|open| open.room.clone());
        if let Some(room) = open {
            let panels = panels::of(&self.client, &room).await?;
            self.tell(Update::Panels(room.room_id().to_owned(), panels));
        }
        Ok(())
    }

    /// Says what happens in MLS rooms.
    #[cfg(feature = "mls")]
    async fn listen(self: Arc<Self>) {
        let mut events = self.client.subscribe_to_mls_events();
        while let Some(event) = events.next().await {
            if let Some((event_id, reason)) = crate::mls::unreadable(&event) {
                self.reasons().insert(event_id, reason);
                if let Some(open) = &*self.open.lock().await {
                    open.look_again();
                }
            }
            if let Some(text) = crate::mls::text(&self.client, &event) {
                self.tell(Update::Said(text));
            }
            self.changed.notify_one();
        }
    }

    async fn obey(self: &Arc<Self>, command: Command) {
        if let Err(error) = Box::pin(self.try_to_obey(command)).await {
            self.tell(Update::Said(format!("! {error:#}")));
        }
        self.changed.notify_one();
    }

    async fn try_to_obey(self: &Arc<Self>, command: Command) -> Result<()> {
        match command {
            Command::Open(room) => self.open(self.room(&room)?).await,
            Command::New { name, users } => {
                let mut request = create_room::v3::Request::new();
                request.name = Some(name);
                request.invite = users;
                let content = RoomEncryptionEventContent::with_recommended_defaults();
                let encryption = InitialStateEvent::with_empty_state_key(content);
                request.initial_state = vec![encryption.to_raw_any()];
                self.open(self.client.create_room(request).await?).await
            }
            Command::Join(room) => {
                let room = self.client.join_room_by_id_or_alias(&room, &[]).await?;
                self.open(room).await
            }
            Command::Verify { user, device } => self.verify(user, device).await,
            Command::Answer(yes) => self.answer(yes).await,
            Command::InRoom(room, action) => self.act(self.room(&room)?, action).await,
        }
    }

    fn room(&self, room: &RoomId) -> Result<Room> {
        self.client.get_room(room).context("there is no such room")
    }

    async fn open(self: &Arc<Self>, room: Room) -> Result<()> {
        let mut open = self.open.lock().await;
        let room_id = room.room_id().to_owned();
        if open.as_ref().is_some_and(|open| open.room.room_id() == room_id) {
            return Ok(());
        }
        self.tell(Update::Opened(room_id));
        let opened = OpenRoom::open(room, Arc::clone(self)).await?;
        let timeline = Arc::clone(&opened.timeline);
        *open = Some(opened);
        drop(open);
        timeline.paginate_backwards(PAGE).await?;
        Ok(())
    }

    async fn act(&self, room: Room, action: Action) -> Result<()> {
        match action {
            Action::Older => {
                let open = self.open.lock().await;
                let timeline = open.as_ref().map(|open| Arc::clone(&open.timeline));
                drop(open);
                if let Some(timeline) = timeline {
                    timeline.paginate_backwards(PAGE).await?;
                }
            }
            Action::Send(content) => send(&room, *content).await?,
            Action::Reply(event_id, text) => {
                let content = RoomMessageEventContentWithoutRelation::text_plain(text);
                let reply = Reply {
                    event_id,
                    enforce_thread: EnforceThread::MaybeThreaded,
                    add_mentions: AddMentions::Yes,
                };
                let content = room.make_reply_event(content, reply).await?;
                send(&room, content.into()).await?;
            }
            Action::Edit(event_id, text) => {
                let content = RoomMessageEventContentWithoutRelation::text_plain(text);
                let content = EditedContent::RoomMessage(content);
                let content = room.make_edit_event(&event_id, content).await?;
                send(&room, content).await?;
            }
            Action::Redact(event_id) => {
                room.redact(&event_id, None, None).await?;
            }
            Action::Retry => {
                let queue = queue(&room);
                for handle in handles(queue.subscribe().await?.0) {
                    handle.unwedge().await?;
                }
                queue.set_enabled(true);
            }
            Action::Cancel => {
                for handle in handles(queue(&room).subscribe().await?.0) {
                    handle.abort().await?;
                }
            }
            Action::File(path) => files::send(&room, &path).await?,
            Action::Save(event_id, path) => {
                let open = self.open.lock().await;
                let timeline = open.as_ref().map(|open| Arc::clone(&open.timeline));
                drop(open);
                let timeline = timeline.context("no room is open")?;
                let item = timeline.item_by_event_id(&event_id).await;
                let item = item.context("this message is gone")?;
                let message = item.content().as_message().context("this is no message")?;
                files::save(&self.client, message.msgtype(), &path).await?;
                self.tell(Update::Said(format!("{} is written", path.display())));
            }
            Action::Invite(user) => room.invite_user_by_id(&user).await?,
            Action::Leave => room.leave().await?,
        }
        Ok(())
    }
}

/// Gives an event to the room's send queue, which keeps it over a restart.
async fn send(room: &Room, content: AnyMessageLikeEventContent) -> Result<()> {
    queue(room).send(content).await?;
    Ok(())
}

/// What waits, to be tried again or taken back.
fn handles(echoes: Vec<LocalEcho>) -> impl Iterator<Item = SendHandle> {
    echoes.into_iter().filter_map(|echo| {
        #[cfg(not(feature = "mls"))]
        let handle = match echo.content {
            LocalEchoContent::Event { send_handle, .. } => Some(send_handle),
            _ => None,
        };
        #[cfg(feature = "mls")]
        let handle = Some(echo.send_handle);
        handle
    })
}

/// The room's send queue.
pub(crate) fn queue(room: &Room) -> RoomSendQueue {
    #[cfg(not(feature = "mls"))]
    let queue = room.send_queue();
    #[cfg(feature = "mls")]
    let queue = room.mls_send_queue();
    queue
}
