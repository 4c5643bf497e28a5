//! Pictures of figures, as SVG that stands in a page.
//!
//! Two kinds: *bars*, one a balancer, with the range of its rounds; *curves* over percentiles, where each step to the right is
//! a tenth of what is left. Colours are classes; the page's style sheet has them.

use std::fmt::Write;

use crate::report::plain;

/// Pixels of a picture.
const WIDTH: f64 = 640.0;

/// Of a row of bars, and of the names before them.
const ROW: f64 = 30.0;
const NAMES: f64 = 210.0;
/// Of the values behind them.
const VALUES: f64 = 90.0;

/// Of a picture of curves: its height and its margins left, right, top and bottom.
const HEIGHT: f64 = 300.0;
const MARGIN: [f64; 4] = [56.0, 12.0, 14.0, 36.0];

/// A bar.
pub struct Bar<'a> {
    /// Whose.
    pub name: &'a str,
    /// Its colour.
    pub class: &'a str,
    /// Where it ends.
    pub median: f64,
    /// The ends of the range.
    pub range: (f64, f64),
}

/// A curve: for each percentile, from 0 to 1, how much.
pub struct Curve<'a> {
    /// Whose.
    pub name: &'a str,
    /// Its colour.
    pub class: &'a str,
    /// In ascending order.
    pub points: Vec<(f64, f64)>,
}

/// Bars from zero.
pub fn bars(unit: &str, bars: &[Bar<'_>]) -> String {
    let most = bars.iter().map(|bar| bar.range.1).fold(f64::MIN_POSITIVE, f64::max);
    let height = ROW * bars.len() as f64;
    let x = |value: f64| NAMES + value.max(0.0) / most * (WIDTH - NAMES - VALUES);
    let mut svg = open(height);
    for (n, bar) in bars.iter().enumerate() {
        let y = ROW * n as f64;
        let (middle, name, class) = (y + ROW / 2.0, escaped(bar.name), bar.class);
        let text = middle + 4.5;
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{:.0}\" y=\"{text:.1}\">{name}</text>\
             <rect class=\"{class}\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>",
            NAMES - 8.0,
            y + 5.0,
            (x(bar.median) - NAMES).max(0.5),
            ROW - 10.0
        );
        let (least, most) = (x(bar.range.0), x(bar.range.1));
        let _ = write!(
            svg,
            "<path class=\"range\" d=\"M{least:.1} {middle:.1}H{most:.1}M{least:.1} {:.1}v8M{most:.1} {:.1}v8\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{text:.1}\">{} {}</text>",
            middle - 4.0,
            middle - 4.0,
            most + 8.0,
            plain(bar.median),
            escaped(unit)
        );
    }
    svg + "</svg>"
}

/// Curves over percentiles, the values on a logarithmic scale.
pub fn curves(curves: &[Curve<'_>]) -> String {
    let [left, right, top, bottom] = MARGIN;
    let all = || curves.iter().flat_map(|curve| &curve.points).filter(|point| point.1 > 0.0);
    let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let most = all().map(|point| point.1).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let (low, high) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    // Decades of what is left: 0, 90, 99, 99.9 %.
    let last = all().map(|point| decades(point.0)).filter(|d| d.is_finite()).fold(1.0, f64::max);
    let x = |quantile: f64| left + (decades(quantile) / last).min(1.0) * (WIDTH - left - right);
    let y = |value: f64| {
        let share = (value.max(least).log10() - low) / (high - low);
        HEIGHT - bottom - share * (HEIGHT - top - bottom)
    };
    let mut svg = open(HEIGHT);
    grid(&mut svg, (low, high, last), &x, &y);
    for curve in curves {
        let points = curve.points.iter().filter(|point| point.1 > 0.0);
        let path: Vec<String> =
            points.map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let (class, name) = (curve.class, escaped(curve.name));
        let path = path.join(" ");
        let _ = write!(
            svg,
            "<polyline class=\"{class}\" points=\"{path}\"><title>{name}</title></polyline>"
        );
    }
    svg + "</svg>"
}

fn grid(
    svg: &mut String,
    (low, high, last): (f64, f64, f64),
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(f64) -> f64,
) {
    let [left, right, top, bottom] = MARGIN;
    for exponent in low as i32..=high as i32 {
        let value = 10f64.powi(exponent);
        let at =
            HEIGHT - bottom - (f64::from(exponent) - low) / (high - low) * (HEIGHT - top - bottom);
        debug_assert!(exponent <= low as i32 || (y(value) - at).abs() < 1.0);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{left} {at:.1}H{:.1}\"/><text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - right,
            left - 6.0,
            at + 4.0,
            plain(value)
        );
    }
    for (label, quantile) in [
        ("0 %", 0.0),
        ("50 %", 0.5),
        ("90 %", 0.9),
        ("99 %", 0.99),
        ("99.9 %", 0.999),
        ("99.99 %", 0.9999),
    ] {
        if decades(quantile) > last {
            break;
        }
        let at = x(quantile);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {top}V{:.1}\"/><text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
            HEIGHT - bottom,
            HEIGHT - bottom + 16.0
        );
    }
}

/// How often what is left has become a tenth.
fn decades(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn open(height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         xmlns=\"http://www.w3.org/2000/svg\">"
    )
}

/// Text that stands in markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_range_fills_the_picture_and_half_of_it_is_half_as_long() {
        let bar = |name, median, most| Bar { name, class: "a", median, range: (median, most) };
        let svg = bars("us", &[bar("x & y", 50.0, 100.0), bar("z", 100.0, 100.0)]);
        assert!(svg.contains("x &amp; y") && svg.contains("width=\"170.0\""), "{svg}");
        assert!(svg.contains("width=\"340.0\""), "{svg}");
    }

    #[test]
    fn a_curve_ends_where_its_last_percentile_is() {
        let points = vec![(0.0, 10.0), (0.9, 100.0), (0.99, 1_000.0), (1.0, 1_000.0)];
        let svg = curves(&[Curve { name: "x", class: "a", points }]);
        assert!(svg.contains("56.0,264.0 342.0,139.0 628.0,14.0 628.0,14.0"), "{svg}");
        assert!(svg.contains(">99 %<") && !svg.contains(">99.9 %<"), "{svg}");
        assert_eq!(curves(&[]), "");
    }
}
