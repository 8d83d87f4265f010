//! Two homeservers that federate, over a link that can be cut.

use std::{
    env,
    time::{Duration, Instant},
};

use ruma::{OwnedUserId, UserId, api::client::profile::get_profile};

use crate::{
    error::{DriverError, HttpError, LinkError},
    http::HttpClient,
    link::{Link, Side},
};

/// How long the servers may take to find each other again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before asking once more.
const PAUSE: Duration = Duration::from_millis(100);

/// Two homeservers and the link between them.
#[derive(Debug)]
pub struct Federation {
    /// The first server.
    pub a: HttpClient,
    /// The second one, counted in the same [`WireLog`](crate::WireLog).
    pub b: HttpClient,
    /// What connects them.
    pub link: Link,
}

impl Federation {
    /// Those that `cargo xtask` has started, which says in the environment where they are
    /// (`MLS_TEST_FEDERATION_A`, `_B` and `_CONTROL`). Waits until nobody else uses the link.
    pub async fn from_env() -> Result<Self, DriverError> {
        let variable = |name| env::var(name).map_err(|_| LinkError::NoFederation(name));
        let a = HttpClient::connect(variable("MLS_TEST_FEDERATION_A")?).await?;
        let b = HttpClient::connect(variable("MLS_TEST_FEDERATION_B")?).await?;
        let link = Link::take(&variable("MLS_TEST_FEDERATION_CONTROL")?).await?;
        let b = b.with_wire_log(a.wire_log.clone());
        Ok(Self { a, b, link })
    }

    /// A server.
    pub fn server(&self, side: Side) -> &HttpClient {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// Cuts the servers off from one another, and makes sure that they are.
    pub async fn cut(&mut self) -> Result<(), DriverError> {
        self.link.cut().await?;
        for (from, to) in [(Side::A, Side::B), (Side::B, Side::A)] {
            if self.reaches(from, to).await? {
                return Err(LinkError::NotCut.into());
            }
        }
        Ok(())
    }

    /// Lets them reach each other again, and waits until they do.
    ///
    /// Each server is asked for somebody on the other one. That is also what tells a server which
    /// has given up sending that there is somebody again: Synapse sends what it has kept as soon as
    /// the other server has asked it anything.
    pub async fn heal(&mut self) -> Result<(), DriverError> {
        self.link.heal().await?;
        let begin = Instant::now();
        for (from, to) in [(Side::A, Side::B), (Side::B, Side::A)] {
            while !self.reaches(from, to).await? {
                if begin.elapsed() > PATIENCE {
                    return Err(LinkError::NotHealed.into());
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Whether a server gets an answer from the other one now.
    pub async fn reaches(&self, from: Side, to: Side) -> Result<bool, DriverError> {
        let nobody = self.nobody(to)?;
        let answer = self.server(from).send(get_profile::v3::Request::new(nobody)).await;
        match answer {
            Ok(_) => Ok(true),
            // The other server says that there is no such user, or this one that there is no server.
            Err(HttpError::Matrix { status, .. }) => Ok(status == reqwest::StatusCode::NOT_FOUND),
            Err(other) => Err(other.into()),
        }
    }

    fn nobody(&self, side: Side) -> Result<OwnedUserId, DriverError> {
        let name = self.link.server_name(side);
        let user = UserId::parse(format!("@nobody:{name}"));
        Ok(user.map_err(|_| LinkError::Answer(name.to_owned()))?)
    }
}
