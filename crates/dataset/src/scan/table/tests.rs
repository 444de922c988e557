use super::*;
use crate::unwatched;

/// A folder with images a.jpg to f.jpg, and a table.
fn folder(table: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        std::fs::write(root.path().join(format!("{name}.jpg")), name).unwrap();
    }
    std::fs::write(root.path().join("t.csv"), table).unwrap();
    root
}

fn list(
    table: &str,
    change: impl FnOnce(&mut TableSpec),
    classes: Option<&[&str]>,
) -> std::result::Result<Listing, String> {
    let root = folder(table);
    let mut spec = TableSpec { path: root.path().join("t.csv"), ..TableSpec::default() };
    change(&mut spec);
    let classes: Option<Vec<String>> = classes.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    let listed = Listing::of_table(root.path(), &spec, classes.as_deref(), None, &unwatched);
    listed.map_err(|error| error.to_string().replace(&format!("{}/", root.path().display()), ""))
}

/// A split in short: `a.jpg=1 b.jpg=0/0.5,0.5`.
fn shown(samples: &[Sample]) -> String {
    let one = |sample: &Sample| {
        let targets: Vec<_> = sample.targets.iter().map(ToString::to_string).collect();
        let targets = if targets.is_empty() { String::new() } else { format!("/{}", targets.join(",")) };
        format!("{}={}{targets}", sample.path.display(), sample.class)
    };
    samples.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn tables_of_every_form() {
    type Case = (&'static str, LabelKind, &'static str, &'static str, &'static str);
    let cases: [Case; 11] = [
        ("image,label\na.jpg,dog\nb.jpg,cat\n", LabelKind::Class, "cat,dog", "a.jpg=1 b.jpg=0", ""),
        (
            "\u{feff}path;class;split\r\na.jpg;x;training\r\nb.jpg;y;valid\r\n",
            LabelKind::Class,
            "x,y",
            "a.jpg=0",
            "b.jpg=1",
        ),
        ("id,label\na,10\nb,9\nc,1\n", LabelKind::Class, "1,9,10", "a.jpg=2 b.jpg=1 c.jpg=0", ""),
        (
            "label,fname,file_name\n\"a, b\",_,a.jpg\n\"c \"\"d\"\"\",_,b.jpg\n",
            LabelKind::Class,
            "a, b,c \"d\"",
            "a.jpg=0 b.jpg=1",
            "",
        ),
        ("image,x,y\na.jpg,1,0\nb.jpg,0,1\n", LabelKind::Class, "x,y", "a.jpg=0 b.jpg=1", ""),
        (
            "image,x,y,z\na.jpg,0.25,0.25,0.5\nb.jpg,0.5,.5,0\n",
            LabelKind::Class,
            "x,y,z",
            "a.jpg=2/0.25,0.25,0.5 b.jpg=0/0.5,0.5,0",
            "",
        ),
        ("image,x,y\na.jpg,1,1\nb.jpg,False,true\n", LabelKind::Flags, "x,y", "a.jpg=0/1,1 b.jpg=0/0,1", ""),
        (
            "image,labels\na.jpg,big dog|cat\nb.jpg,\nc.jpg,cat\n",
            LabelKind::Flags,
            "big dog,cat",
            "a.jpg=0/1,1 b.jpg=0/0,0 c.jpg=0/0,1",
            "",
        ),
        ("image\tlabels\na.jpg\tx, y\nb.jpg\ty\n", LabelKind::Flags, "x,y", "a.jpg=0/1,1 b.jpg=0/0,1", ""),
        ("image,age,is_valid\na.jpg,1.5e1,False\nb.jpg,-3,True\n", LabelKind::Numbers, "age,is_valid", "", ""),
        ("image,w,h,set\na.jpg,1,2,train\nb.jpg,3,4,dev\n", LabelKind::Numbers, "w,h", "a.jpg=0/1,2", "b.jpg=0/3,4"),
    ];
    for (table, kind, classes, train, val) in cases {
        let is_valid = table.contains("is_valid");
        let found = list(
            table,
            |spec| {
                spec.kind = kind;
                if kind == LabelKind::Class && table.starts_with("image,x") {
                    spec.labels = classes.split(',').map(str::to_owned).collect();
                }
                if is_valid {
                    spec.split = Some("is_valid".to_owned());
                }
            },
            None,
        );
        let found = found.unwrap_or_else(|error| panic!("{table}: {error}"));
        let (classes, train, val) = if is_valid { ("age", "a.jpg=0/15", "b.jpg=0/-3") } else { (classes, train, val) };
        assert_eq!(found.classes.join(","), classes, "{table}");
        assert_eq!((shown(&found.train), shown(&found.val)), (train.to_owned(), val.to_owned()), "{table}");
    }
}

#[test]
fn columns_and_classes_can_be_named() {
    let table = "id,sex,age,where\n1,m,3,a.jpg\n2,f,5,b.jpg\n";
    let columns = |spec: &mut TableSpec| {
        (spec.image, spec.labels) = (Some("where".to_owned()), vec!["sex".to_owned()]);
    };
    let found = list(table, columns, Some(&["m", "f", "x"])).unwrap();
    assert_eq!((found.classes.join(","), shown(&found.train)), ("m,f,x".to_owned(), "a.jpg=0 b.jpg=1".to_owned()));
    let listed = list(
        "image,labels\na.jpg,x y\nb.jpg,y\n",
        |spec| {
            (spec.kind, spec.separator) = (LabelKind::Flags, Some(" ".to_owned()));
        },
        None,
    );
    assert_eq!(shown(&listed.unwrap().train), "a.jpg=0/1,1 b.jpg=0/0,1");
}

#[test]
fn mistakes_are_named_by_line() {
    let (class, flags, numbers) = (LabelKind::Class, LabelKind::Flags, LabelKind::Numbers);
    for (table, kind, words) in [
        ("", class, "t.csv: "),
        ("image,label\n", class, "t.csv: has no row"),
        (
            "a,b\na.jpg,x\n",
            class,
            "t.csv: which column holds the images? Name it with --column-image; the table has a, b",
        ),
        (
            "image,a,b\na.jpg,x,y\n",
            class,
            "t.csv: which column holds the labels? Name it with --column-label; the table has image, a, b",
        ),
        ("image,label,label\na.jpg,x,y\n", class, "t.csv: has two columns called 'label'"),
        ("image,label\na.jpg,x\nb.jpg,x,y\n", class, "t.csv:3: has 3 fields, and the header 2"),
        ("image,label\na.jpg,x\n,y\n", class, "t.csv:3: no image in column 'image'"),
        ("image,label\na.jpg,x\nb.jpg,\n", class, "t.csv:3: no label in column 'label'"),
        ("image,label\na.jpg,x\n\nno.jpg,y\n", class, "t.csv:4: no.jpg: no such image"),
        ("image,label\r\n\r\na.jpg,x\r\nno.jpg,y\r\n", class, "t.csv:4: no.jpg: no such image"),
        ("image,label\r\na.jpg,x\r\n\r\nb.jpg,x,y\r\n", class, "t.csv:4: has 3 fields, and the header 2"),
        ("image,label,split\na.jpg,x,train\nb.jpg,y,7\n", class, "t.csv:3: '7' in column 'split' is no split"),
        ("image,label,split\na.jpg,x,train\na.jpg,x,val\n", class, "t.csv:3: a.jpg is in val, and in train in line 2"),
        ("image,x,y\na.jpg,1,0\nb.jpg,-1,0\n", flags, "t.csv:3: '-1' in column 'x' is neither 0 nor 1"),
        ("image,x\na.jpg,1\nb.jpg,\n", numbers, "t.csv:3: '' in column 'x' is not a number"),
        ("image,x\na.jpg,1\nb.jpg,nan\n", numbers, "t.csv:3: 'nan' in column 'x' is not a number"),
        ("image,x\na.jpg,1\nb.jpg,1e999\n", numbers, "t.csv:3: '1e999' in column 'x' is not a number"),
        ("image,label\na.jpg,x\n\"b.jpg,y\nc.jpg\",z\n", class, "t.csv:3: 'b.jpg,y; c.jpg' has a line break"),
        ("image,tags\na.jpg,\n", flags, "t.csv: no row has a label"),
    ] {
        let error = list(table, |spec| spec.kind = kind, None).unwrap_err();
        assert!(error.starts_with(words) && !error.contains('\n'), "{table:?}: {error}");
    }
    let shares = |table| list(table, |spec| spec.labels = vec!["x".to_owned(), "y".to_owned()], None).unwrap_err();
    let sum = shares("image,x,y\na.jpg,1,0\nb.jpg,0.9,0.9\n");
    assert!(sum.starts_with("t.csv:3: the shares of the classes add up to 1.8, not to 1"), "{sum}");
    let word = shares("image,x,y\na.jpg,cat,0\n");
    assert!(word.starts_with("t.csv:2: 'cat' in column 'x' is not the share of a class"), "{word}");
    let unknown = list("image,label\na.jpg,x\nb.jpg,z\n", |_| {}, Some(&["x", "y"])).unwrap_err();
    assert!(unknown.starts_with("t.csv:3: class 'z' is none of those"), "{unknown}");
    let twice =
        list("image,x\na.jpg,1\n", |spec| spec.labels = vec!["x".to_owned(), "x".to_owned()], None).unwrap_err();
    assert!(twice.starts_with("t.csv: --column-label: names 'x' twice"), "{twice}");
    let separator = list("image,label\na.jpg,x\n", |spec| spec.separator = Some("|".to_owned()), None).unwrap_err();
    assert!(separator.starts_with("t.csv: --label-separator '|': is for --task multilabel"), "{separator}");
    let column = list("image,label\na.jpg,x\n", |spec| spec.labels = vec!["class".to_owned()], None).unwrap_err();
    assert!(column.starts_with("t.csv: --column-label class: no such column; the table has image, label"), "{column}");
}

#[test]
fn latin_1_is_named() {
    let root = folder("");
    let path = root.path().join("t.csv");
    std::fs::write(&path, b"image,label\na.jpg,caf\xe9\n").unwrap();
    let spec = TableSpec { path, ..TableSpec::default() };
    let error = Listing::of_table(root.path(), &spec, None, None, &unwatched).unwrap_err().to_string();
    assert!(error.contains("t.csv:2: is not UTF-8"), "{error}");
}

#[test]
fn what_evaluation_looks_at() {
    let of_split = |table: &str, wanted: ToEvaluate| {
        let root = folder(table);
        let spec = TableSpec { path: root.path().join("t.csv"), ..TableSpec::default() };
        Listing::of_table_to_evaluate(root.path(), &spec, None, wanted, &unwatched).map(|(listing, part)| {
            assert_eq!(part == Part::All, !table.contains(",val") && wanted == ToEvaluate::Val(None));
            assert!(listing.train.is_empty() && listing.test.is_empty());
            listing.val.len()
        })
    };
    let of = |table, val_split: Option<f64>| of_split(table, ToEvaluate::Val(val_split.and_then(ValSplit::new)));
    let plain = "image,label\na.jpg,x\nb.jpg,x\nc.jpg,y\nd.jpg,y\n";
    assert_eq!((of(plain, None).unwrap(), of(plain, Some(0.5)).unwrap()), (4, 2));
    let split = "image,label,split\na.jpg,x,train\nb.jpg,y,val\n";
    assert_eq!(of(split, None).unwrap(), 1);
    assert!(of(split, Some(0.5)).unwrap_err().to_string().contains("leave --val-split out"));
    let with_test = "image,label,split\na.jpg,x,train\nb.jpg,y,val\nc.jpg,y,test\nd.jpg,y,test\n";
    assert_eq!((of(with_test, None).unwrap(), of_split(with_test, ToEvaluate::Test).unwrap()), (1, 2));
    assert_eq!(of_split(split, ToEvaluate::Test).unwrap(), 0);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_gives_a_listing_or_a_reason_on_one_line(text in "(image,label\n)?([a-d.,;|\"\\n\\t]|\\PC){0,60}", kind in 0usize..3) {
            let kind = [LabelKind::Class, LabelKind::Flags, LabelKind::Numbers][kind];
            if let Err(error) = list(&text, |spec| spec.kind = kind, None) {
                prop_assert!(!error.contains('\n'), "{}", error);
            }
        }
    }
}
