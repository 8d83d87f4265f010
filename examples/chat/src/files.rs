//! Files that are sent and saved.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use matrix_sdk::{
    attachment::AttachmentConfig,
    media::{MediaFormat, MediaRequestParameters},
    ruma::events::room::{MediaSource, message::MessageType},
};

use crate::{Client, Room};

/// Sends a file.
pub(crate) async fn send(room: &Room, path: &Path) -> Result<()> {
    let data = fs::read(path).with_context(|| path.display().to_string())?;
    let name = path.file_name().context("this is no file")?.to_string_lossy().into_owned();
    let kind = kind(path).parse::<mime::Mime>()?;
    room.send_attachment(name, &kind, data, AttachmentConfig::new()).await?;
    Ok(())
}

/// Writes the file of a message into one that does not exist yet.
pub(crate) async fn save(client: &Client, message: &MessageType, path: &Path) -> Result<()> {
    let source = source(message).context("there is no file in this message")?;
    let request = MediaRequestParameters { source, format: MediaFormat::File };
    let data = client.media().get_media_content(&request, false).await?;
    if path.exists() {
        bail!("{} exists", path.display());
    }
    fs::write(path, data).with_context(|| path.display().to_string())
}

/// Where a message's file is, if it has one.
fn source(message: &MessageType) -> Option<MediaSource> {
    match message {
        MessageType::Audio(audio) => Some(audio.source.clone()),
        MessageType::File(file) => Some(file.source.clone()),
        MessageType::Image(image) => Some(image.source.clone()),
        MessageType::Video(video) => Some(video.source.clone()),
        _ => None,
    }
}

/// What is before the text of a message with a file.
pub(crate) fn label(message: &MessageType) -> &'static str {
    if source(message).is_some() { "[file, /save PATH] " } else { "" }
}

/// What others are told that it is.
fn kind(path: &Path) -> &'static str {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "gif" => "image/gif",
        "jpeg" | "jpg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "pdf" => "application/pdf",
        "md" | "txt" => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_the_ending() {
        assert_eq!(kind(Path::new("a/picture.JPG")), "image/jpeg");
        assert_eq!(kind(Path::new("archive.tar.gz")), "application/octet-stream");
        assert_eq!(kind(Path::new("none")), "application/octet-stream");
        for name in ["a.gif", "a.mp3", "a.pdf", "a.txt", "a"] {
            kind(Path::new(name)).parse::<mime::Mime>().unwrap();
        }
    }
}
