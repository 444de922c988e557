//! Fetches one file, `fetch-program SOURCE FOLDER [SHA256]`, with short limits, and says in a line how that ended.

use std::env;
use std::time::Duration;

use fetch::{Limits, Request, Source, Store, unwatched};

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [url, folder, checksum @ ..] = &arguments[..] else { panic!("fetch-program SOURCE FOLDER [SHA256]") };
    let mut request = Request::new(url.parse().unwrap());
    request.checksum = checksum.first().map(|text| text.parse().unwrap());
    let limits = Limits {
        attempts: 3,
        first_pause: Duration::from_millis(1),
        stall_timeout: Duration::from_secs(5),
        ..Limits::default()
    };
    let store = Store::open(Some(folder.as_ref()), false, limits).unwrap();
    let fetched = match &request.source {
        // The file behind the model's name.
        Source::Hub(model) => model.list(&store, &unwatched).and_then(|listing| {
            let file =
                listing.files.iter().find(|file| Some(&file.path[..]) == model.file()).expect("a file of the model");
            let (request, store) = model.request(&listing, file, &store)?;
            store.fetch(&request, &unwatched)
        }),
        _ => store.fetch(&request, &unwatched),
    };
    match fetched {
        Ok(path) => println!("fetched: {}", path.display()),
        Err(error) => println!("failed{}: {error}", if error.is_bad_input() { " for good" } else { "" }),
    }
}
