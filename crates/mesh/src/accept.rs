//! Taking connections in: one that fails ends no listener.

use std::io;
use std::time::Duration;
use tokio::time::sleep;

/// How long after a connection that was not taken the next is tried: what is short of descriptors does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the next connection in, however long that takes: what accept(2) fails of is over with the next connection, as where one broke
/// off, or when others end, as where no descriptor is free. It is said once until one is taken again.
pub async fn accept<T, F: Future<Output = io::Result<T>>>(listener: &'static str, mut attempt: impl FnMut() -> F) -> T {
    let mut is_said = false;
    loop {
        match attempt().await {
            Ok(taken) => return taken,
            Err(error) if is_said => tracing::debug!(listener, %error, "a connection was not taken either"),
            Err(error) => {
                is_said = true;
                tracing::warn!(listener, %error, "a connection was not taken; it is tried again");
            }
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[tokio::test]
    async fn a_connection_that_is_not_taken_is_followed_by_one_that_is() {
        let mut attempts = [Err(Errno::MFILE), Err(Errno::CONNABORTED), Ok(7)].into_iter();
        let taken = accept("a test", || {
            let attempt = attempts.next().unwrap_or(Ok(0));
            async move { Ok(attempt?) }
        });
        assert_eq!(taken.await, 7);
    }
}
