//! Meters under faults: their figures are compared with what is computed from the rows, for each minute and topic.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::wait::{holds, wait_until};
use crate::{Client, System};

/// The longest that a change or a question is repeated, and that a backfill may take.
const SOON: Duration = Duration::from_secs(120);

/// The meters, by name, with how one is computed from the values of a minute and topic.
const METERS: [(&str, &str, &str, Figure); 6] = [
    ("count", "count", "", |values| values.len().to_string()),
    ("sum", "sum", "/price", |values| decimal(values.iter().map(|value| value.cents()).sum(), 2)),
    ("least", "min", "/n", |values| values.iter().map(|value| value.n).min().unwrap_or_default().to_string()),
    ("greatest", "max", "/price", |values| {
        decimal(values.iter().map(|value| value.cents()).max().unwrap_or_default(), 2)
    }),
    ("average", "avg", "/price", |values| {
        let sum: i128 = values.iter().map(|value| value.cents()).sum();
        decimal(divided(sum * 10_i128.pow(16), values.len() as i128), 18)
    }),
    ("different", "unique", "/n", |values| values.len().to_string()),
];
/// How many different values a window of `unique` keeps over all its groups.
const MAX_DIFFERENT: usize = 100_000;
/// The meter that is added in the middle of a test.
const ADDED: (&str, &str, &str, Figure) =
    ("added", "latest", "/n", |values| values.iter().max().map_or(0, |value| value.n).to_string());
/// The meter that is changed in the middle, to this. At first it counts something else.
const CHANGED: (&str, &str, &str, Figure) =
    ("changed", "sum", "/n", |values| values.iter().map(|value| value.n).sum::<u64>().to_string());

type Figure = fn(&[Seen]) -> String;

/// What meters see of an event: its time in µs, and its number. Ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    micros: i64,
    n: u64,
}

impl Seen {
    /// Returns the price of the event ([`crate::load::event`]) in hundredths.
    fn cents(&self) -> i128 {
        i128::from(self.n) * 100 + 50
    }
}

/// Returns a quotient, rounded to the nearest, and of two that are as near to the even one.
fn divided(number: i128, divisor: i128) -> i128 {
    let (quotient, remainder) = (number / divisor, number % divisor);
    let up = 2 * remainder > divisor || (2 * remainder == divisor && quotient % 2 == 1);
    quotient + i128::from(up)
}

/// Returns a number with so many digits after the point as text, without zeros at its end.
fn decimal(digits: i128, scale: usize) -> String {
    let text = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = text.split_at(text.len() - scale);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

/// Puts a meter, however often that has to be repeated. Returns false if the programs do not know meters.
async fn put(client: &Client, name: &str, aggregation: &str, value: &str) -> bool {
    let mut definition = json!({"aggregation": aggregation, "group_by": ["topic"]});
    if !value.is_empty() {
        definition["value"] = json!(value);
    }
    let body = definition.to_string();
    wait_until(&format!("the meter {name} is put"), SOON, || async {
        let put = client.request("PUT", &format!("/meters/{name}")).body(body.clone()).timeout(Duration::from_secs(5));
        match client.try_send(put).await {
            Ok(answer) if matches!(answer.status, 200 | 201) => Ok(true),
            Ok(answer) if answer.status == 404 => Ok(false),
            Ok(answer) if answer.status >= 500 => Err(answer.text),
            Ok(answer) => panic!("PUT of the meter {name}: {} {}", answer.status, answer.text),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

/// Puts the meters. Returns false if the programs do not know any.
pub async fn begin(client: &Client) -> bool {
    for (name, aggregation, value, _) in METERS {
        if !put(client, name, aggregation, value).await {
            return false;
        }
    }
    put(client, CHANGED.0, "count", "").await
}

/// Adds a meter and changes one, while events are stored and others were stored before.
pub async fn change(client: &Client) {
    for (name, aggregation, value, _) in [ADDED, CHANGED] {
        assert!(put(client, name, aggregation, value).await, "the programs know meters");
    }
}

/// Waits until the meters are complete, and compares all figures of each minute and topic with the rows.
pub async fn compare(system: &System) {
    wait_until("all meters are complete", SOON, || async {
        let answer = system.client.get("/meters").await;
        let complete = answer.json()["meters"].as_array().is_some_and(|meters| {
            meters.iter().all(|meter| meter["complete"] == true && meter["changing_to"].is_null())
        });
        holds(complete, || answer.text.clone())
    })
    .await;
    let seen = system.reader().await.times().await.expect("the rows");
    let mut expected: BTreeMap<(i64, String), Vec<Seen>> = BTreeMap::new();
    for (topic, payload, micros) in seen {
        let n = payload.strip_prefix(r#"{"n":"#).and_then(|rest| rest.split(',').next()?.parse().ok());
        let n = n.unwrap_or_else(|| panic!("not a payload of the load: {payload}"));
        expected.entry((micros.div_euclid(60_000_000), topic)).or_default().push(Seen { micros, n });
    }
    for (name, aggregation, _, figure) in METERS.into_iter().chain([ADDED, CHANGED]) {
        let shown = figures(&system.client, name, &expected).await;
        assert!(shown.keys().eq(expected.keys()), "the meter {name}: {shown:?} instead of {:?}", expected.keys());
        let mut different = BTreeMap::<i64, (usize, usize)>::new();
        for (key, values) in &expected {
            let (value, shown) = (figure(values), &shown[key]);
            let says = format!("the meter {name} shows {shown:?} at {key:?}, and the {} rows {value}", values.len());
            assert_eq!(shown.events, values.len() as u64, "{says}");
            assert_eq!(shown.value == value, !shown.is_lower_bound, "{says}");
            if aggregation == "unique" {
                let (kept, rows) = different.entry(key.0).or_default();
                *kept += shown.value.parse::<usize>().expect("a count");
                *rows += values.len();
            } else {
                assert!(!shown.is_lower_bound, "{says}");
            }
        }
        for (minute, (kept, rows)) in different {
            assert_eq!(kept, rows.min(MAX_DIFFERENT), "the meter {name} in the minute {minute}, of {rows} rows");
        }
    }
}

/// What a meter shows of a group.
#[derive(Debug)]
struct Shown {
    value: String,
    events: u64,
    is_lower_bound: bool,
}

/// Returns what a meter shows by minute and topic.
async fn figures(
    client: &Client,
    name: &str,
    expected: &BTreeMap<(i64, String), Vec<Seen>>,
) -> BTreeMap<(i64, String), Shown> {
    let (Some(((first, _), _)), Some(((last, _), _))) = (expected.first_key_value(), expected.last_key_value()) else {
        return BTreeMap::new();
    };
    let question = json!({"queries": [
        {"meter": name, "window": "minute", "group_by": ["topic"], "from": time(*first), "to": time(last + 1)},
        {"meter": name, "window": "hour", "from": time(*first), "to": time(last + 1)},
    ]});
    let answer = wait_until("the meters are answered", SOON, || async {
        let answer = client.send(client.request("POST", "/meters/query").body(question.to_string())).await;
        // The database may still be busy with what came late.
        if answer.status == 503 { Err(answer.text) } else { Ok(answer.assert_status(200).json()) }
    })
    .await;
    let [minutes, hours] = [0, 1].map(|n| answer["results"][n]["windows"].as_array().expect("windows").clone());
    assert_eq!(minutes.len() as i64, last + 1 - first, "{answer}");
    let mut figures = BTreeMap::new();
    for (minute, window) in (*first..).zip(&minutes) {
        for group in window["groups"].as_array().expect("groups") {
            let topic = group["group"]["topic"].as_str().unwrap_or_else(|| panic!("no topic: {group}"));
            let value = group["value"].as_str().expect("a value").to_owned();
            let shown = Shown { value, events: events(group), is_lower_bound: group["lower_bound"] == true };
            figures.insert((minute, topic.to_owned()), shown);
        }
    }
    let groups = |windows: &[Value]| -> Vec<Value> {
        windows.iter().flat_map(|window| window["groups"].as_array().cloned().unwrap_or_default()).collect()
    };
    let [by_minutes, by_hours] = [&minutes, &hours].map(|windows| groups(windows).iter().map(events).sum::<u64>());
    assert_eq!(by_minutes, by_hours, "the minutes and the hours of the meter {name}");
    figures
}

fn events(group: &Value) -> u64 {
    group["events"].as_u64().unwrap_or_else(|| panic!("no events: {group}"))
}

/// Returns a minute since 1970 as text.
fn time(minute: i64) -> String {
    let (days, minutes) = (minute.div_euclid(24 * 60), minute.rem_euclid(24 * 60));
    // The civil date of a day since 1970: "civil_from_days" in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
    let era_day = days + 719_468;
    let (era, day) = (era_day.div_euclid(146_097), era_day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:00Z", minutes / 60, minutes % 60)
}
