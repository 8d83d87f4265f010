//! The media repository.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{
    OwnedMxcUri,
    api::client::{authenticated_media::get_content, media::create_content},
};

use super::{SimEvent, SimServer};

const SERVER: &str = "example.org";

impl SimServer {
    /// Files of more than so many bytes are refused from now on.
    pub fn limits_uploads(&self, bytes: usize) {
        self.state().upload_limit = bytes;
    }

    /// The server does not have any of its files any more. Gives how many it had.
    pub fn purges_media(&self) -> usize {
        std::mem::take(&mut self.state().media).len()
    }

    /// The sizes of all files, in bytes.
    pub fn media_sizes(&self) -> Vec<usize> {
        self.state().media.values().map(Vec::len).collect()
    }

    /// Has something else for all files of now than what was uploaded, of the same size; the second time
    /// what was uploaded.
    pub fn spoils_media(&self) {
        for file in self.state().media.values_mut() {
            file.iter_mut().for_each(|byte| *byte ^= 1);
        }
    }

    /// How often a file was asked for.
    pub fn downloads(&self) -> usize {
        self.state().downloads
    }

    /// An event with what is in its files in it, as if it had all fitted.
    pub fn with_files(&self, mut event: SimEvent) -> SimEvent {
        let state = self.state();
        for part in ["commit", "tree"] {
            let url =
                event.content.get(format!("{part}_file")).and_then(|file| file["url"].as_str());
            let id = url.and_then(|url| url.rsplit('/').next());
            if let Some(file) = id.and_then(|id| state.media.get(id)) {
                event.content[part] = STANDARD_NO_PAD.encode(file).into();
            }
        }
        event
    }

    pub(super) fn upload_media(&self, file: Vec<u8>) -> Result<create_content::v3::Response, u16> {
        let mut state = self.state();
        if file.len() > state.upload_limit {
            return Err(413);
        }
        let id = format!("file{}", state.next_id());
        state.media.insert(id.clone(), file);
        let uri = OwnedMxcUri::from(format!("mxc://{SERVER}/{id}"));
        Ok(create_content::v3::Response::new(uri))
    }

    pub(super) fn download_media(
        &self,
        request: &get_content::v1::Request,
    ) -> Result<get_content::v1::Response, u16> {
        let mut state = self.state();
        state.downloads += 1;
        let file = state.media.get(&request.media_id).filter(|_| request.server_name == SERVER);
        let file = file.ok_or(404_u16)?;
        Ok(response(file.clone()))
    }
}

/// The answer to a download.
pub(in super::super) fn response(file: Vec<u8>) -> get_content::v1::Response {
    get_content::v1::Response::new(
        file,
        "application/octet-stream".to_owned(),
        ruma::http_headers::ContentDisposition::new(
            ruma::http_headers::ContentDispositionType::Attachment,
        ),
    )
}
