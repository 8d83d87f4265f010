//! How many bytes went to devices directly and to the media repository.

use matrix_mls_tests::{HttpClient, WireCount};

/// What had been sent at some time, in bytes of request and response bodies.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// To devices directly, by all who sent.
    pub to_device: u64,
    /// Files, once for each upload.
    pub uploaded: u64,
    /// Files, once for each device that fetched one.
    pub downloaded: u64,
}

impl Traffic {
    /// What has been sent so far.
    pub fn of(http: &HttpClient) -> Self {
        let mut traffic = Self { to_device: 0, uploaded: 0, downloaded: 0 };
        for (kind, WireCount { sent, received, .. }) in http.wire_log.snapshot() {
            if kind.starts_with("PUT /sendToDevice") {
                traffic.to_device += sent;
            } else if kind.starts_with("POST /media") {
                traffic.uploaded += sent;
            } else if kind.contains("/media/download") {
                traffic.downloaded += received;
            }
        }
        traffic
    }

    /// What was sent since.
    pub fn since(self, earlier: &Self) -> Self {
        Self {
            to_device: self.to_device - earlier.to_device,
            uploaded: self.uploaded - earlier.uploaded,
            downloaded: self.downloaded - earlier.downloaded,
        }
    }
}
