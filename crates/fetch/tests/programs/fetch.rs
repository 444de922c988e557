//! Fetches one file, `fetch-program URL FOLDER [SHA256]`, with short limits, and says in a line how that ended.

use std::env;
use std::time::Duration;

use fetch::{Limits, Request, Store, unwatched};

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [url, folder, checksum @ ..] = &arguments[..] else { panic!("fetch-program URL FOLDER [SHA256]") };
    let mut request = Request::new(url.parse().unwrap());
    request.checksum = checksum.first().map(|text| text.parse().unwrap());
    let limits = Limits {
        attempts: 3,
        first_pause: Duration::from_millis(1),
        stall_timeout: Duration::from_secs(5),
        ..Limits::default()
    };
    let store = Store::open(Some(folder.as_ref()), false, limits).unwrap();
    match store.fetch(&request, &unwatched) {
        Ok(path) => println!("fetched: {}", path.display()),
        Err(error) => println!("failed{}: {error}", if error.is_bad_input() { " for good" } else { "" }),
    }
}
