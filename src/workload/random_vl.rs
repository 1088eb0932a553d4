//! `--dataset random_vl`: random text and images of random shapes, for vision language models.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jpeg_encoder::{ColorType as JpegColour, Encoder};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::context::Context;
use super::error::WorkloadError;
use super::item::{Item, user_message};
use super::random_text::{RandomLengths, RandomText};
use super::rng::{self, Purpose};
use crate::api::prompt::Prompt;

/// Maximum number of shapes in an image.
const SHAPES: u32 = 5;
/// Maximum thickness of a line, pixels.
const LINE: i64 = 5;
const JPEG_QUALITY: u8 = 85;

/// The images of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pictures {
    /// Pixels.
    pub width: u16,
    pub height: u16,
    pub format: Format,
    /// Images in each request.
    pub count: u32,
}

/// The pixel format and encoding of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// PNG: RGB, RGB with alpha, greyscale.
    Rgb,
    Rgba,
    Grey,
    /// JPEG: RGB.
    Jpeg,
}

impl Format {
    /// Parses `RGB`, `RGBA`, `L` or `JPEG`, ignoring case.
    pub(crate) fn scan(text: &str) -> Result<Format, String> {
        match text.to_ascii_uppercase().as_str() {
            "RGB" => Ok(Format::Rgb),
            "RGBA" => Ok(Format::Rgba),
            "L" => Ok(Format::Grey),
            "JPEG" | "JPG" => Ok(Format::Jpeg),
            _ => Err(format!("'{text}' is not one of RGB, RGBA, L (as PNG), JPEG")),
        }
    }

    fn channels(self) -> usize {
        match self {
            Format::Rgb | Format::Jpeg => 3,
            Format::Rgba => 4,
            Format::Grey => 1,
        }
    }
}

/// Generates all prompts of the run.
pub fn read(lengths: &RandomLengths, pictures: &Pictures, context: &Context<'_>) -> Result<Vec<Item>, WorkloadError> {
    let random = RandomText::new(context.tokens_for("--dataset random_vl")?, context.randomness)?;
    let frame = random.frame()?;
    context.generate("Generating prompts", |number| {
        let inner = u64::from(lengths.draw(context.randomness, number)).saturating_sub(frame).max(1) as usize;
        let text = context.residuals.note(random.text(number, inner, frame)?);
        let mut parts = vec![json!({"type": "text", "text": text})];
        for nth in 0..pictures.count {
            let url = data_uri(pictures, context.randomness.text_seed(), number, nth).map_err(WorkloadError::Data)?;
            parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
        }
        Ok(Item::new(Prompt::Messages(vec![user_message(Value::from(parts))])))
    })
}

/// Image `nth` of the request with this number as a `data:` URI.
fn data_uri(pictures: &Pictures, seed: u64, number: u64, nth: u32) -> Result<String, String> {
    let mut rng = rng::stream(seed ^ number.rotate_left(20) ^ u64::from(nth).rotate_left(52), Purpose::Picture);
    let pixels = picture(pictures, &mut rng);
    let failed = |error: &dyn std::fmt::Display| format!("an image could not be encoded: {error}");
    let mut bytes = Vec::new();
    let kind = if pictures.format == Format::Jpeg {
        let encoder = Encoder::new(&mut bytes, JPEG_QUALITY);
        let done = encoder.encode(&pixels, pictures.width, pictures.height, JpegColour::Rgb);
        done.map_err(|error| failed(&error))?;
        "jpeg"
    } else {
        let mut encoder = png::Encoder::new(&mut bytes, u32::from(pictures.width), u32::from(pictures.height));
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_color(match pictures.format {
            Format::Rgba => png::ColorType::Rgba,
            Format::Grey => png::ColorType::Grayscale,
            Format::Rgb | Format::Jpeg => png::ColorType::Rgb,
        });
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
        written.map_err(|error| failed(&error))?;
        "png"
    };
    Ok(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
}

/// Pixels of one background colour with one to five rectangles, ellipses and lines.
fn picture(pictures: &Pictures, rng: &mut ChaCha12Rng) -> Vec<u8> {
    let (width, height) = (i64::from(pictures.width), i64::from(pictures.height));
    let channels = pictures.format.channels();
    let ground = colour(pictures.format, rng);
    let mut pixels = ground[..channels].repeat((width * height) as usize);
    for _ in 0..rng.random_range(1..=SHAPES) {
        let ink = colour(pictures.format, rng);
        let shape = Shape::drawn(width, height, rng);
        for y in 0..height {
            for x in (0..width).filter(|x| shape.covers(*x, y)) {
                let at = (y * width + x) as usize * channels;
                pixels[at..at + channels].copy_from_slice(&ink[..channels]);
            }
        }
    }
    pixels
}

fn colour(format: Format, rng: &mut ChaCha12Rng) -> [u8; 4] {
    let [red, green, blue] = [(); 3].map(|()| rng.random_range(0..=255u8));
    if format == Format::Grey { [red; 4] } else { [red, green, blue, 255] }
}

/// A shape between two corners, pixels.
enum Shape {
    Rectangle { left: i64, top: i64, right: i64, bottom: i64 },
    Ellipse { left: i64, top: i64, right: i64, bottom: i64 },
    Line { from: (i64, i64), to: (i64, i64), thickness: i64 },
}

impl Shape {
    fn drawn(width: i64, height: i64, rng: &mut ChaCha12Rng) -> Shape {
        let (x1, x2) = (rng.random_range(0..width), rng.random_range(0..width));
        let (y1, y2) = (rng.random_range(0..height), rng.random_range(0..height));
        let (left, right, top, bottom) = (x1.min(x2), x1.max(x2), y1.min(y2), y1.max(y2));
        match rng.random_range(0..3u8) {
            0 => Shape::Rectangle { left, top, right, bottom },
            1 => Shape::Ellipse { left, top, right, bottom },
            _ => Shape::Line { from: (x1, y1), to: (x2, y2), thickness: rng.random_range(1..=LINE) },
        }
    }

    fn covers(&self, x: i64, y: i64) -> bool {
        match *self {
            Shape::Rectangle { left, top, right, bottom } => (left..=right).contains(&x) && (top..=bottom).contains(&y),
            Shape::Ellipse { left, top, right, bottom } => {
                // Twice the distance from the centre divided by the diameter, which needs no half pixels.
                let (across, down) = ((right - left + 1) as f64, (bottom - top + 1) as f64);
                let (dx, dy) = ((2 * x - left - right) as f64 / across, (2 * y - top - bottom) as f64 / down);
                dx * dx + dy * dy <= 1.0
            }
            Shape::Line { from, to, thickness } => {
                let (dx, dy) = ((to.0 - from.0) as f64, (to.1 - from.1) as f64);
                let (px, py) = ((x - from.0) as f64, (y - from.1) as f64);
                let along = ((px * dx + py * dy) / (dx * dx + dy * dy).max(1.0)).clamp(0.0, 1.0);
                let (ox, oy) = (px - along * dx, py - along * dy);
                4.0 * (ox * ox + oy * oy) <= (thickness * thickness) as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(format: Format, seed: u64) -> (String, Vec<u8>) {
        let pictures = Pictures { width: 40, height: 30, format, count: 1 };
        let uri = data_uri(&pictures, seed, 3, 0).unwrap();
        let (kind, data) = uri.strip_prefix("data:image/").unwrap().split_once(";base64,").unwrap();
        (kind.to_string(), STANDARD.decode(data).unwrap())
    }

    #[test]
    fn pictures_are_what_their_names_say() {
        for (format, colour) in [
            (Format::Rgb, png::ColorType::Rgb),
            (Format::Rgba, png::ColorType::Rgba),
            (Format::Grey, png::ColorType::Grayscale),
        ] {
            let (kind, bytes) = decoded(format, 1);
            assert_eq!(kind, "png");
            let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
            assert_eq!((reader.info().width, reader.info().height, reader.info().color_type), (40, 30, colour));
        }
        let (kind, bytes) = decoded(Format::Jpeg, 1);
        assert_eq!((kind.as_str(), &bytes[..3]), ("jpeg", &[0xff, 0xd8, 0xff][..]));
        assert_eq!(decoded(Format::Rgb, 1), decoded(Format::Rgb, 1));
        assert_ne!(decoded(Format::Rgb, 1), decoded(Format::Rgb, 2));
    }

    #[test]
    fn there_is_something_to_see() {
        let pictures = Pictures { width: 64, height: 64, format: Format::Rgb, count: 1 };
        for seed in 0..20 {
            let pixels = picture(&pictures, &mut rng::stream(seed, Purpose::Picture));
            assert_eq!(pixels.len(), 64 * 64 * 3);
            assert!(pixels.chunks(3).any(|pixel| pixel != &pixels[..3]) || seed > 0, "seed {seed}");
        }
    }

    #[test]
    fn formats_are_read() {
        assert_eq!((Format::scan("rgb"), Format::scan("JPEG")), (Ok(Format::Rgb), Ok(Format::Jpeg)));
        assert!(Format::scan("CMYK").unwrap_err().contains("RGB, RGBA, L"));
    }
}
