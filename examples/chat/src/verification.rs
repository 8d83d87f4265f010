//! Verifying devices with emoji, as other clients do it. All of it is the SDK's, with MLS and without.

use std::sync::{Arc, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use matrix_sdk::{
    encryption::verification::{
        SasState, SasVerification, Verification, VerificationRequest, VerificationRequestState,
    },
    ruma::{
        OwnedDeviceId, OwnedUserId,
        events::key::verification::{
            VerificationMethod, request::ToDeviceKeyVerificationRequestEvent,
        },
    },
};

use crate::{backend::Inner, state::Update};

/// What waits for the user, or for the other side.
#[derive(Clone)]
pub(crate) enum Current {
    Asked(VerificationRequest),
    Comparing(SasVerification),
}

impl Inner {
    /// Listens for those who want to verify this device.
    pub(crate) fn listen_for_verifications(self: &Arc<Self>) {
        let inner = Arc::downgrade(self);
        self.client.add_event_handler(move |event: ToDeviceKeyVerificationRequestEvent| {
            let inner = inner.clone();
            async move {
                let Some(inner) = inner.upgrade() else { return };
                let encryption = inner.client.encryption();
                let id = &event.content.transaction_id;
                if let Some(request) = encryption.get_verification_request(&event.sender, id).await
                {
                    inner.follow(request);
                }
            }
        });
    }

    /// Asks a device, or all of our own, to verify us and be verified.
    pub(crate) async fn verify(
        self: &Arc<Self>,
        user: Option<OwnedUserId>,
        device: Option<OwnedDeviceId>,
    ) -> Result<()> {
        let encryption = self.client.encryption();
        let own = self.client.user_id().context("not logged in")?;
        let methods = vec![VerificationMethod::SasV1];
        let request = match user.filter(|user| user != own || device.is_some()) {
            None => {
                let identity = encryption.get_user_identity(own).await?;
                let identity = identity.context("there is no identity of ours")?;
                identity.request_verification_with_methods(methods).await?
            }
            Some(user) => {
                // Theirs may be new to us.
                encryption.request_user_identity(&user).await?;
                let devices = encryption.get_user_devices(&user).await?;
                let is_it = |id: &OwnedDeviceId| device.as_ref().is_none_or(|device| device == id);
                let mut found: Vec<_> =
                    devices.devices().filter(|it| is_it(&it.device_id().to_owned())).collect();
                let first = found.pop().with_context(|| format!("{user} has no such device"))?;
                if !found.is_empty() {
                    bail!("{user} has several devices: /verify {user} DEVICE; F2 shows them");
                }
                first.request_verification_with_methods(methods).await?
            }
        };
        self.follow(request);
        Ok(())
    }

    /// What the user says to the question that was asked last.
    pub(crate) async fn answer(&self, yes: bool) -> Result<()> {
        let current = self.verification().clone().context("nothing is being verified")?;
        match (current, yes) {
            (Current::Asked(request), true) => {
                request.accept_with_methods(vec![VerificationMethod::SasV1]).await?;
            }
            (Current::Asked(request), false) => request.cancel().await?,
            (Current::Comparing(sas), true) => sas.confirm().await?,
            (Current::Comparing(sas), false) => sas.mismatch().await?,
        }
        Ok(())
    }

    fn verification(&self) -> MutexGuard<'_, Option<Current>> {
        self.verification.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows how it goes, until it is over.
    fn follow(self: &Arc<Self>, request: VerificationRequest) {
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let who = request.other_user_id().to_owned();
            *inner.verification() = Some(Current::Asked(request.clone()));
            let result = inner.agree(&request).await;
            let result = match result {
                Ok(Some(sas)) => {
                    *inner.verification() = Some(Current::Comparing(sas.clone()));
                    inner.compare(&sas).await
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            *inner.verification() = None;
            inner.tell(Update::Verification(Vec::new()));
            inner.tell(Update::Said(match result {
                Ok(()) => format!("{who} is verified"),
                Err(error) => format!("! {who} is not verified: {error:#}"),
            }));
            inner.look_at_everything();
        });
    }

    /// Until both sides want to compare; nothing if that is not needed any more.
    async fn agree(&self, request: &VerificationRequest) -> Result<Option<SasVerification>> {
        let who = request.other_user_id();
        let mut changes = request.changes();
        let mut state = request.state();
        loop {
            match state {
                VerificationRequestState::Requested { other_device_data: device, .. } => {
                    let device = device.device_id();
                    self.ask(&[
                        format!("{who} with {device}"),
                        "wants to verify. /yes or /no".into(),
                    ]);
                }
                VerificationRequestState::Ready { .. } if request.we_started() => {
                    if let Some(sas) = request.start_sas().await? {
                        return Ok(Some(sas));
                    }
                }
                VerificationRequestState::Transitioned { verification } => match verification {
                    Verification::SasV1(sas) => return Ok(Some(sas)),
                    _ => bail!("the other side wants something else than emoji"),
                },
                VerificationRequestState::Done => return Ok(None),
                VerificationRequestState::Cancelled(info) => bail!("{}", info.reason()),
                _ => self.ask(&[format!("Waiting for {who}."), "/no to give up".into()]),
            }
            state = changes.next().await.context("it has ended")?;
        }
    }

    /// Until both users have said that they see the same.
    async fn compare(&self, sas: &SasVerification) -> Result<()> {
        let mut changes = sas.changes();
        if !sas.we_started() {
            sas.accept().await?;
        }
        let mut state = sas.state();
        loop {
            match state {
                SasState::KeysExchanged { emojis: Some(emojis), .. } => {
                    let emojis = emojis.emojis.iter();
                    let mut lines: Vec<_> =
                        emojis.map(|it| format!("{}  {}", it.symbol, it.description)).collect();
                    lines.push(String::new());
                    lines.push("The same, in this order,".to_owned());
                    lines.push("on both screens? /yes or /no".to_owned());
                    self.ask(&lines);
                }
                SasState::KeysExchanged { decimals: (one, two, three), .. } => {
                    let numbers = format!("{one} {two} {three}");
                    self.ask(&[numbers, "The same on both? /yes or /no".into()]);
                }
                SasState::Confirmed => self.ask(&["Waiting for the other side.".into()]),
                SasState::Done { .. } => return Ok(()),
                SasState::Cancelled(info) => bail!("{}", info.reason()),
                _ => {}
            }
            state = changes.next().await.context("it has ended")?;
        }
    }

    fn ask(&self, lines: &[String]) {
        self.tell(Update::Verification(lines.to_vec()));
    }
}
