//! Sending files.

use std::{fmt, future::IntoFuture, io::Cursor};

use eyeball::SharedObservable;
use matrix_sdk::{
    Client, TransmissionProgress,
    attachment::{AttachmentConfig, AttachmentInfo, BaseAudioInfo, Thumbnail},
    media::{MediaFormat, MediaRequestParameters, MediaThumbnailSettings},
};
use matrix_sdk_base::media::store::IgnoreMediaRetentionPolicy;
use mime::Mime;
use ruma::{
    api::client::message::send_message_event,
    events::room::{
        MediaSource, ThumbnailInfo,
        message::{
            AudioInfo, AudioMessageEventContent, FileInfo, FileMessageEventContent, FormattedBody,
            ImageMessageEventContent, MessageType, RoomMessageEventContent,
            TextMessageEventContent, UnstableAmplitude, UnstableAudioDetailsContentBlock,
            UnstableVoiceContentBlock, VideoInfo, VideoMessageEventContent,
        },
    },
};
use tracing::warn;

use super::{
    Room,
    send::{BoxFuture, Options},
};
use crate::error::Error;

/// What [`Room::send_attachment`] returns; await it.
#[must_use]
pub struct SendAttachment<'a> {
    room: &'a Room,
    filename: String,
    content_type: &'a Mime,
    data: Vec<u8>,
    config: AttachmentConfig,
    progress: SharedObservable<TransmissionProgress>,
    store_in_cache: bool,
}

impl Room {
    /// As the SDK's. In an MLS room the file is encrypted as in other encrypted rooms, and the message
    /// with its key with MLS.
    pub fn send_attachment<'a>(
        &'a self,
        filename: impl Into<String>,
        content_type: &'a Mime,
        data: Vec<u8>,
        config: AttachmentConfig,
    ) -> SendAttachment<'a> {
        SendAttachment {
            room: self,
            filename: filename.into(),
            content_type,
            data,
            config,
            progress: SharedObservable::default(),
            store_in_cache: false,
        }
    }
}

impl SendAttachment<'_> {
    /// Where it is told how far the upload has come.
    pub fn with_send_progress_observable(
        mut self,
        progress: SharedObservable<TransmissionProgress>,
    ) -> Self {
        self.progress = progress;
        self
    }

    /// Keeps the file in the media cache, so that showing it needs no download.
    pub fn store_in_cache(mut self) -> Self {
        self.store_in_cache = true;
        self
    }

    async fn send(self) -> matrix_sdk::Result<send_message_event::v3::Response> {
        let Self { room, filename, content_type, data, mut config, progress, store_in_cache } =
            self;
        if !room.is_mls().await? {
            let future = room.sdk.send_attachment(filename, content_type, data, config);
            let future = future.with_send_progress_observable(progress);
            return if store_in_cache { future.store_in_cache() } else { future }.await;
        }
        let sdk = &room.engine.sdk;
        let thumbnail = match config.thumbnail.take() {
            Some(thumbnail) => Some(upload_thumbnail(sdk, thumbnail, store_in_cache).await?),
            None => None,
        };
        let mut reader = Cursor::new(&data);
        let upload = sdk.upload_encrypted_file(&mut reader).with_send_progress_observable(progress);
        let source = MediaSource::Encrypted(Box::new(upload.await?));
        if store_in_cache {
            cache(sdk, source.clone(), MediaFormat::File, data).await;
        }
        let AttachmentConfig { txn_id, info, caption, mentions, reply, .. } = config;
        let message = message(content_type, filename, source, caption, info, thumbnail);
        let mut content = RoomMessageEventContent::new(message);
        if let Some(mentions) = mentions {
            content = content.add_mentions(mentions);
        }
        if let Some(reply) = reply {
            content = room.sdk.make_reply_event(content.into(), reply).await?;
        }
        let content = serde_json::value::to_raw_value(&content).map_err(Error::Json)?;
        let options = Options { transaction_id: txn_id, config: None };
        let content = ruma::serde::Raw::from_json(content);
        let sent = room.engine.send_to(&room.sdk, "m.room.message", content, options);
        Ok(Box::pin(sent).await?.response)
    }
}

/// A thumbnail that was uploaded.
type Uploaded = (MediaSource, Box<ThumbnailInfo>);

async fn upload_thumbnail(
    sdk: &Client,
    thumbnail: Thumbnail,
    store_in_cache: bool,
) -> matrix_sdk::Result<Uploaded> {
    let (width, height) = (thumbnail.width, thumbnail.height);
    let (data, _, info) = thumbnail.into_parts();
    let file = sdk.upload_encrypted_file(&mut Cursor::new(&data)).await?;
    let source = MediaSource::Encrypted(Box::new(file));
    if store_in_cache {
        let format = MediaFormat::Thumbnail(MediaThumbnailSettings::new(width, height));
        cache(sdk, source.clone(), format, data).await;
    }
    Ok((source, info))
}

/// Keeps a file. That this fails is no reason not to send it.
async fn cache(sdk: &Client, source: MediaSource, format: MediaFormat, data: Vec<u8>) {
    let store = match sdk.media_store().lock().await {
        Ok(store) => store,
        Err(error) => return warn!("A file could not be cached: {error}"),
    };
    let request = MediaRequestParameters { source, format };
    let kept = store.add_media_content(&request, data, IgnoreMediaRetentionPolicy::No).await;
    if let Err(error) = kept {
        warn!("A file could not be cached: {error}");
    }
}

/// The message that says where the file is, by the kind of file. A caption takes the place of the
/// file's name as the text (MSC2530).
fn message(
    content_type: &Mime,
    name: String,
    source: MediaSource,
    caption: Option<TextMessageEventContent>,
    info: Option<AttachmentInfo>,
    thumbnail: Option<Uploaded>,
) -> MessageType {
    let (body, formatted, filename): (_, Option<FormattedBody>, _) = match caption {
        Some(caption) => (caption.body, caption.formatted, Some(name)),
        None => (name, None, None),
    };
    let mimetype = Some(content_type.as_ref().to_owned());
    let (thumbnail_source, thumbnail_info) = thumbnail.unzip();
    macro_rules! content {
        ($variant:ident, $content:ident, $info:ty) => {{
            let mut about = info.map(<$info>::from).unwrap_or_default();
            about.mimetype = mimetype;
            about.thumbnail_source = thumbnail_source;
            about.thumbnail_info = thumbnail_info;
            let mut content = $content::new(body, source);
            content.info = Some(Box::new(about));
            content.formatted = formatted;
            content.filename = filename;
            MessageType::$variant(content)
        }};
    }
    match content_type.type_() {
        mime::IMAGE => content!(Image, ImageMessageEventContent, ruma::events::room::ImageInfo),
        mime::VIDEO => content!(Video, VideoMessageEventContent, VideoInfo),
        mime::AUDIO => {
            let mut content = AudioMessageEventContent::new(body, source);
            if let Some(AttachmentInfo::Audio(audio) | AttachmentInfo::Voice(audio)) = &info {
                content.audio = waveform(audio);
            }
            if matches!(info, Some(AttachmentInfo::Voice(_))) {
                content.voice = Some(UnstableVoiceContentBlock::new());
            }
            let mut about = info.map(AudioInfo::from).unwrap_or_default();
            about.mimetype = mimetype;
            content.info = Some(Box::new(about));
            content.formatted = formatted;
            content.filename = filename;
            MessageType::Audio(content)
        }
        _ => content!(File, FileMessageEventContent, FileInfo),
    }
}

fn waveform(audio: &BaseAudioInfo) -> Option<UnstableAudioDetailsContentBlock> {
    let (duration, waveform) = (audio.duration?, audio.waveform.as_ref()?);
    let loudest = f32::from(UnstableAmplitude::MAX);
    let amplitude = |value: &f32| {
        // Between 0 and the loudest, which is a u16 here.
        UnstableAmplitude::from((value.clamp(0.0, 1.0) * loudest).round() as u16)
    };
    let waveform = waveform.iter().map(amplitude).collect();
    Some(UnstableAudioDetailsContentBlock::new(duration, waveform))
}

impl<'a> IntoFuture for SendAttachment<'a> {
    type Output = matrix_sdk::Result<send_message_event::v3::Response>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for SendAttachment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SendAttachment");
        debug.field("bytes", &self.data.len()).finish_non_exhaustive()
    }
}
