//! Draws the figures as SVG files, with a background of their own, so that they can be read on light and dark pages.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figures::{Group, RATE, Spread};
use super::goals::P99;
use super::results::{Column, Results, Section};
use super::table::names;
use crate::watch::cpu::{ALL, WITHOUT_LOAD};

/// The width and the height of a plot, in pixels.
const SIZE: (u32, u32) = (760, 440);
/// Colours that can be told apart by the colour-blind too (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];
/// The name of the rate on empty tables, which is measured as tables grow.
pub const ON_EMPTY_TABLES: &str = "on empty tables, k events/s";
/// The name of the rate at which latency is measured.
pub const ASKED: &str = "asked, k events/s";

const GRID: RGBColor = RGBColor(225, 225, 225);
const TEXT: (&str, i32, &RGBColor) = ("sans-serif", 13, &RGBColor(40, 40, 40));

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;
type DrawingError = DrawingAreaErrorKind<io::Error>;

/// A line through the medians of one figure, with a bar from the smallest to the largest value at each.
struct Line {
    name: String,
    points: Vec<(f64, Spread)>,
}

/// A bar of several parts above each other.
struct Bar {
    name: String,
    parts: Vec<f64>,
}

/// Writes the plots of what was measured into a folder, and returns their paths. Plots of earlier runs stay there if
/// this run did not measure the same.
///
/// # Errors
/// If a file cannot be written.
pub fn save(folder: &Path, results: &Results) -> anyhow::Result<Vec<PathBuf>> {
    let plots = [("growth", growth(results)), ("latency", latency(results)), ("cost", cost(results))];
    let mut paths = Vec::new();
    for (name, plot) in plots {
        let Some(svg) = plot.with_context(|| format!("the plot {name}"))? else { continue };
        let path = folder.join(name).with_extension("svg");
        fs::write(&path, svg).with_context(|| path.display().to_string())?;
        paths.push(path);
    }
    Ok(paths)
}

fn section<'a>(results: &'a Results, key: &str) -> Option<&'a Section> {
    results.sections.iter().find(|section| section.key == key)
}

/// Draws the rate over the number of rows.
fn growth(results: &Results) -> anyhow::Result<Option<String>> {
    let Some(section) = section(results, "growth") else { return Ok(None) };
    let millions = |column: &Column| column.key.strip_prefix("rows_")?.strip_suffix('m')?.parse().ok();
    let line = |name: &str, figure: &str| Line::of(section, name, Group::Rate, figure, millions);
    let lines = [line("with these rows", RATE), line("on empty tables, in the same rounds", ON_EMPTY_TABLES)];
    let Some((x, y)) = highest(&lines) else { return Ok(None) };
    let labels = ["Rate as tables grow, 30% duplicates", "millions of rows stored", "thousands of events per second"];
    // Rates are far above 0, so there is room for the legend below the lines.
    draw_lines(labels, &lines, 0.0..x, 0.0..y, SeriesLabelPosition::LowerLeft).map(Some)
}

/// Draws latency over the rate that was asked for.
fn latency(results: &Results) -> anyhow::Result<Option<String>> {
    let Some(section) = section(results, "latency") else { return Ok(None) };
    let asked = |column: &Column| column.spread(Group::Rate, ASKED).map(|asked| asked.median);
    let line = |name: &str, group: Group, figure: &str| Line::of(section, name, group, figure, asked);
    let lines = [
        line("from POST to row, p99", Group::Row, P99),
        line("from POST to row, p50", Group::Row, "p50"),
        line("/publish, p99", Group::Publish, P99),
        line("/publish, p50", Group::Publish, "p50"),
    ];
    let Some((x, y)) = highest(&lines) else { return Ok(None) };
    let labels = ["Latency over load, 30% duplicates", "thousands of events per second", "milliseconds (logarithmic)"];
    let lowest = lines.iter().flat_map(|line| &line.points).map(|(_, spread)| spread.min).fold(1.0, f64::min);
    // Latency rises with the load, so the legend is above the beginning of the lines.
    let y = (lowest.max(0.01)..y * 4.0).log_scale();
    draw_lines(labels, &lines, 0.0..x, y, SeriesLabelPosition::UpperLeft).map(Some)
}

/// Draws the CPU time of an event in each process, stacked.
fn cost(results: &Results) -> anyhow::Result<Option<String>> {
    let Some(section) = section(results, "end_to_end") else { return Ok(None) };
    let all = names(&section.columns).into_iter();
    // Sums would be drawn as if they were further processes.
    let is_process = |name: &str| name != ALL && name != WITHOUT_LOAD;
    let processes = all.filter(|(group, name)| *group == Group::Cpu && is_process(name)).map(|(_, name)| name);
    let processes: Vec<String> = processes.collect();
    let median = |column: &Column, name: &String| column.spread(Group::Cpu, name).map_or(0.0, |spread| spread.median);
    let bars: Vec<Bar> = section
        .columns
        .iter()
        .map(|column| Bar {
            name: column.title.clone(),
            parts: processes.iter().map(|name| median(column, name)).collect(),
        })
        .collect();
    if processes.is_empty() { Ok(None) } else { draw_bars(&processes, &bars).map(Some) }
}

impl Line {
    /// Takes one figure of all columns that have it. `x` returns the place of a column.
    fn of(section: &Section, name: &str, group: Group, figure: &str, x: impl Fn(&Column) -> Option<f64>) -> Self {
        let points = section.columns.iter().filter_map(|column| Some((x(column)?, column.spread(group, figure)?)));
        Self { name: name.to_owned(), points: points.collect() }
    }
}

/// Returns where both axes end; `None` if there is nothing to draw.
fn highest(lines: &[Line]) -> Option<(f64, f64)> {
    let ends = lines.iter().flat_map(|line| &line.points).map(|(x, spread)| (*x, spread.max));
    let (x, y) = ends.reduce(|(x, y), (other_x, other_y)| (f64::max(x, other_x), f64::max(y, other_y)))?;
    Some((x.max(1.0) * 1.03, y * 1.08))
}

/// Draws lines with the title and the names of the axes.
fn draw_lines<Y>(
    [title, x_name, y_name]: [&str; 3],
    lines: &[Line],
    x: Range<f64>,
    y: Y,
    legend_at: SeriesLabelPosition,
) -> anyhow::Result<String>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    svg(|area| {
        let mut builder = ChartBuilder::on(area);
        builder.caption(title, ("sans-serif", 19)).margin(14).margin_right(24);
        let mut chart = builder.x_label_area_size(48).y_label_area_size(64).build_cartesian_2d(x, y)?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(x_name).y_desc(y_name).light_line_style(TRANSPARENT).bold_line_style(GRID);
        mesh.label_style(TEXT).axis_desc_style(TEXT).x_label_formatter(&tick);
        mesh.y_label_formatter(&tick).draw()?;
        for (line, colour) in lines.iter().zip(COLOURS) {
            let style = colour.stroke_width(2);
            let medians = line.points.iter().map(|(x, spread)| (*x, spread.median));
            chart
                .draw_series(LineSeries::new(medians.clone(), style))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
            chart.draw_series(medians.map(|point| Circle::new(point, 4, colour.filled())))?;
            let bars = line.points.iter().map(|(x, spread)| [(*x, spread.min), (*x, spread.max)]);
            chart.draw_series(bars.map(|bar| PathElement::new(bar, colour.stroke_width(1))))?;
        }
        legend(&mut chart, legend_at)
    })
}

/// Draws stacked bars, with the values of the parts and their sums.
fn draw_bars(parts: &[String], bars: &[Bar]) -> anyhow::Result<String> {
    let sum = |bar: &Bar| bar.parts.iter().sum::<f64>();
    let highest = bars.iter().map(sum).fold(0.0, f64::max);
    svg(|area| {
        let mut builder = ChartBuilder::on(area);
        builder.caption("CPU time of an event, by process", ("sans-serif", 19)).margin(14);
        // Both ends of such a range are in it. Above the bars is room for the legend.
        let (x, y) = ((0..bars.len() - 1).into_segmented(), 0.0..highest * 1.5);
        let mut chart = builder.x_label_area_size(30).y_label_area_size(64).build_cartesian_2d(x, y)?;
        let title = |place: &SegmentValue<usize>| match place {
            SegmentValue::CenterOf(bar) => bars.get(*bar).map_or_else(String::new, |bar| bar.name.clone()),
            _ => String::new(),
        };
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh().light_line_style(TRANSPARENT).bold_line_style(GRID).x_label_formatter(&title);
        mesh.y_desc("µs per event received").label_style(TEXT).axis_desc_style(TEXT);
        mesh.y_label_formatter(&tick).draw()?;
        let value_style = TEXT.into_text_style(area).pos(Pos::new(HPos::Center, VPos::Center));
        let mut below = vec![0.0; bars.len()];
        for (part, (name, colour)) in parts.iter().zip(COLOURS).enumerate() {
            let sections = bars.iter().zip(&below).enumerate().map(|(place, (bar, &low))| {
                let high = low + bar.parts[part];
                let (left, right) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
                let mut section = Rectangle::new([(left, low), (right, high)], colour.filled());
                section.set_margin(0, 0, 40, 40);
                section
            });
            chart
                .draw_series(sections)?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 20, y + 5)], colour.filled()));
            // A part that is too thin for its value has none.
            let parts = bars.iter().zip(&below).enumerate().map(|(place, (bar, low))| (place, *low, bar.parts[part]));
            let values = parts.filter(|(.., value)| *value > highest * 0.05).map(|(place, low, value)| {
                let middle = (SegmentValue::CenterOf(place), low + value / 2.0);
                Text::new(format!("{value:.1}"), middle, value_style.color(text_on(colour)))
            });
            chart.draw_series(values)?;
            below.iter_mut().zip(bars).for_each(|(below, bar)| *below += bar.parts[part]);
        }
        let sums = below.iter().enumerate().map(|(place, sum)| {
            let above = (SegmentValue::CenterOf(place), sum + highest * 0.04);
            Text::new(format!("{sum:.1}"), above, value_style.clone())
        });
        chart.draw_series(sums)?;
        legend(&mut chart, SeriesLabelPosition::UpperRight)
    })
}

/// Returns black or white, whichever can be read on a colour.
fn text_on(RGBColor(red, green, blue): RGBColor) -> &'static RGBColor {
    let brightness = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if brightness > 130.0 { &BLACK } else { &WHITE }
}

/// Formats a number at an axis: steps are sums, which need not be exact.
fn tick(value: &f64) -> String {
    ((value * 1000.0).round() / 1000.0).to_string()
}

fn legend<'a, 'b: 'a, X: Ranged, Y: Ranged>(
    chart: &mut Chart<'a, 'b, X, Y>,
    at: SeriesLabelPosition,
) -> Result<(), DrawingError> {
    let mut labels = chart.configure_series_labels();
    labels.position(at).margin(6).label_font(TEXT);
    labels.background_style(WHITE.mix(0.8)).border_style(GRID).draw()
}

/// Draws on a white background. Returns the file.
fn svg(draw: impl FnOnce(&Area<'_>) -> Result<(), DrawingError>) -> anyhow::Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    let drawn = area.fill(&WHITE).and_then(|()| draw(&area)).and_then(|()| area.present());
    drop(area);
    drawn.map_err(|error| anyhow!("{error}"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Figures;

    fn section(key: &'static str, columns: Vec<Column>) -> Section {
        Section { title: "", description: "", key, columns }
    }

    fn column(title: &str, key: &str, figures: &[(Group, &str, f64)]) -> Column {
        let mut column = Column::new(title, key);
        for (round, factor) in [0.9, 1.0, 1.2].into_iter().enumerate() {
            let mut measured = Figures::default();
            figures.iter().for_each(|(group, name, value)| measured.add(*group, *name, value * factor));
            column.rounds.push((round, measured));
        }
        column
    }

    fn results() -> Results {
        let rows = |millions: u32, rate: f64| {
            let figures = [(Group::Rate, RATE, rate), (Group::Rate, ON_EMPTY_TABLES, 130.0)];
            column(&format!("{millions} million"), &format!("rows_{millions}m"), &figures)
        };
        let at = |asked: f64, row: f64| {
            let (publish, row) = ((Group::Publish, P99, row / 9.0), (Group::Row, P99, row));
            let medians = [(Group::Publish, "p50", publish.2 / 3.0), (Group::Row, "p50", row.2 / 3.0)];
            let mut column = column("load", "load", &[publish, row, medians[0], medians[1]]);
            column.rounds.iter_mut().for_each(|(_, figures)| figures.add(Group::Rate, ASKED, asked));
            column
        };
        let spent = |title: &str, micros: [f64; 5]| {
            let names = ["publisher", "aggregator", "Redis", "PostgreSQL", "load generator"];
            let parts = names.iter().zip(micros).map(|(name, micros)| (Group::Cpu, *name, micros));
            let all: f64 = micros.iter().sum();
            let sums = [(Group::Cpu, ALL, all), (Group::Cpu, WITHOUT_LOAD, all - micros[4])];
            column(title, "dup", &parts.chain(sums).collect::<Vec<_>>())
        };
        let growth = [(0, 130.0), (1, 122.0), (2, 110.0), (5, 106.0), (10, 101.0), (20, 98.0), (50, 94.0)];
        let growth = growth.map(|(millions, rate)| rows(millions, rate)).into();
        let latency = [(5.0, 12.0), (20.0, 25.0), (50.0, 90.0)].map(|(asked, row)| at(asked, row)).into();
        let cost = vec![
            spent("COPY", [0.0, 0.0, 0.0, 14.2, 0.2]),
            spent("Sluice, 0% duplicates", [2.7, 2.1, 0.9, 15.3, 0.4]),
            spent("Sluice, 30% duplicates", [2.6, 1.8, 0.7, 9.7, 0.4]),
            spent("Sluice, 90% duplicates", [2.6, 1.2, 0.7, 1.5, 0.4]),
        ];
        Results { sections: vec![section("end_to_end", cost), section("latency", latency), section("growth", growth)] }
    }

    #[test]
    fn each_plot_names_its_axes_with_their_units_and_has_every_figure() {
        let folder = std::env::temp_dir().join(format!("sluice-plots-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let paths = save(&folder, &results()).unwrap();
        let plots: Vec<String> = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        if std::env::var_os("SLUICE_KEEP_PLOTS").is_none() {
            fs::remove_dir_all(&folder).unwrap();
        }
        let [growth, latency, cost] = plots.try_into().unwrap();
        for text in ["millions of rows stored", "thousands of events per second", "on empty tables, in the same rounds"]
        {
            assert!(growth.contains(text), "{text}");
        }
        assert_eq!(growth.matches("<circle").count(), 14);
        assert!(latency.contains("milliseconds") && latency.contains("thousands of events per second"));
        assert_eq!(latency.matches("<circle").count(), 12);
        assert!(cost.contains("µs per event received") && cost.contains("Sluice, 90% duplicates"), "{cost}");
        for text in ["PostgreSQL", "14.4", "21.4", "15.2", "6.4"] {
            assert!(cost.contains(text), "{text}");
        }
        for plot in [growth, latency, cost] {
            assert!(plot.contains("<rect") && plot.contains("#FFFFFF"), "a background of its own");
        }
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        let growth = vec![column("0 million", "rows_0m", &[(Group::Cpu, "all", 1.0)])];
        let results = Results { sections: vec![section("growth", growth)] };
        assert!(save(Path::new("/nonexistent"), &results).unwrap().is_empty());
    }
}
