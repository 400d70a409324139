//! QR codes in pictures: photographs of a screen, and screenshots.

use image::imageops::{self, FilterType};
use image::{GrayImage, ImageFormat, ImageReader, Limits};
use kairn_mesh_protocol::pairing::Invitation;
use kairn_report::{Kind, Report};
use rqrr::PreparedImage;
use std::collections::BTreeSet;
use std::io::Cursor;

/// The most pixels of a side; telephones make less than 10,000.
const WIDEST: u32 = 20_000;
/// The most bytes that a picture may need in memory.
const MEMORY: u64 = 1 << 30;
/// Codes in large photographs are found better in smaller ones: the noise is gone, and the code is still large enough.
const SIDES: [u32; 2] = [1_600, 800];
/// Below this a picture is doubled: what a terminal draws may be a pixel or two a square.
const SMALL: u32 = 600;

/// Says whether these bytes begin as a picture that can be read.
pub fn is_one(bytes: &[u8]) -> bool {
    format(bytes).is_some()
}

fn format(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes).ok().filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg))
}

/// Finds what a machine shows in a picture.
///
/// # Errors
/// It is no picture, or has not exactly one code of a machine that can be used.
pub fn invitation(what: &str, bytes: &[u8]) -> Result<Invitation, Report> {
    let picture = read(bytes).map_err(|error| {
        Report::new(Kind::User, format!("`{what}` cannot be read as a picture: {error}"))
            .hint("save it as PNG or JPEG again")
    })?;
    let mut seen = BTreeSet::new();
    for variant in variants(picture) {
        seen.extend(codes(&variant));
        if seen.iter().any(|text| Invitation::is_meant(text)) {
            break;
        }
    }
    let mut ours = seen.iter().filter(|text| Invitation::is_meant(text));
    match (ours.next(), ours.next()) {
        (Some(text), None) => {
            text.parse().map_err(|fault| Report::from(fault).context(format!("the QR code in `{what}` cannot be used")))
        }
        (Some(_), Some(_)) => Err(Report::new(Kind::User, format!("`{what}` shows codes of several machines"))
            .hint("take a picture of one of them")),
        (None, _) if seen.is_empty() => Err(Report::new(Kind::User, format!("no QR code is found in `{what}`")).hint(
            "have the whole code in the picture with its light border, sharp and straight; or type the text beside it",
        )),
        (None, _) => {
            let what =
                format!("`{what}` has {} QR codes, and none is of a machine that waits to be paired", seen.len());
            Err(Report::new(Kind::User, what).hint("its text begins with KAIRNPAIR1"))
        }
    }
}

fn read(bytes: &[u8]) -> image::ImageResult<GrayImage> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(WIDEST);
    limits.max_image_height = Some(WIDEST);
    limits.max_alloc = Some(MEMORY);
    let mut reader = ImageReader::new(Cursor::new(bytes));
    if let Some(format) = format(bytes) {
        reader.set_format(format);
    }
    reader.limits(limits);
    Ok(reader.decode()?.into_luma8())
}

/// A picture as it is and as codes may be found better in it, each with light and dark exchanged too: a terminal may be light.
fn variants(picture: GrayImage) -> impl Iterator<Item = GrayImage> {
    let longest = picture.width().max(picture.height());
    let smaller = SIDES.into_iter().filter(move |side| *side < longest).map(|side| (side, FilterType::Triangle));
    let larger = (longest < SMALL).then_some((longest * 2, FilterType::Nearest));
    let sizes: Vec<(u32, FilterType)> = smaller.chain(larger).collect();
    let resized = move |picture: &GrayImage, (side, filter): (u32, FilterType)| {
        let scaled = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longest.max(1))).max(1);
        let length = |length: u32| u32::try_from(scaled(length)).unwrap_or(side);
        imageops::resize(picture, length(picture.width()), length(picture.height()), filter)
    };
    std::iter::once(None).chain(sizes.into_iter().map(Some)).flat_map(move |size| {
        let image = size.map_or_else(|| picture.clone(), |size| resized(&picture, size));
        let mut inverted = image.clone();
        imageops::invert(&mut inverted);
        [image, inverted]
    })
}

/// The texts of all codes that are found.
fn codes(image: &GrayImage) -> Vec<String> {
    let size = |length: u32| usize::try_from(length).unwrap_or_default();
    let at = |x: usize, y: usize| match (u32::try_from(x), u32::try_from(y)) {
        (Ok(x), Ok(y)) => {
            image.get_pixel_checked(x, y).map_or(u8::MAX, |pixel| pixel.0.first().copied().unwrap_or_default())
        }
        _ => u8::MAX,
    };
    let mut prepared = PreparedImage::prepare_from_greyscale(size(image.width()), size(image.height()), at);
    prepared
        .detect_grids()
        .iter()
        .filter_map(|grid| match grid.decode() {
            Ok((_, text)) => Some(text),
            Err(error) => {
                tracing::debug!(%error, "something like a QR code cannot be read");
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, Luma};
    use kairn_mesh_protocol::Identity;
    use qrcode::{Color, EcLevel, QrCode};

    fn machine(seed: u8) -> Invitation {
        let addresses = ["192.0.2.7", "2001:db8::7"].map(|address| address.parse().unwrap());
        Invitation::new([seed; 16], Identity::from_seed(&[seed; 32]).id(), 7_940, addresses)
    }

    /// A code as the machine shows it, `scale` pixels a square, with its border.
    fn drawn(text: &str, scale: u32) -> GrayImage {
        let code = QrCode::with_error_correction_level(text.to_uppercase(), EcLevel::L).unwrap();
        let (width, border) = (u32::try_from(code.width()).unwrap(), 4);
        let colors = code.to_colors();
        let side = (width + 2 * border) * scale;
        GrayImage::from_fn(side, side, |x, y| {
            let (x, y) = ((x / scale).wrapping_sub(border), (y / scale).wrapping_sub(border));
            let is_dark = x < width && y < width && colors[usize::try_from(y * width + x).unwrap()] == Color::Dark;
            Luma([if is_dark { 20 } else { 235 }])
        })
    }

    /// The picture turned by degrees around its middle, and seen a little from the side, as a telephone sees a screen.
    fn photographed(image: &GrayImage, degrees: f64, lean: f64, side: u32) -> GrayImage {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (half, middle) = (f64::from(side) / 2.0, f64::from(image.width()) / 2.0);
        let scale = f64::from(image.width()) / (f64::from(side) * 0.7);
        GrayImage::from_fn(side, side, |x, y| {
            let (x, y) = ((f64::from(x) - half) * scale, (f64::from(y) - half) * scale);
            let away = 1.0 + lean * y / middle;
            let (x, y) = ((cos * x - sin * y) * away + middle, (sin * x + cos * y) * away + middle);
            let inside = |value: f64| value >= 0.0 && value < middle * 2.0;
            // The wall behind the screen, a little lighter at one side.
            if !(inside(x) && inside(y)) {
                return Luma([120]);
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the picture")]
            *image.get_pixel(x as u32, y as u32)
        })
    }

    fn file(image: &GrayImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageLuma8(image.clone()).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_code_is_read_from_screenshots_and_photographs() {
        let wanted = machine(1);
        let text = wanted.reveal();
        let mut light = drawn(&text, 6);
        imageops::invert(&mut light);
        let large = drawn(&text, 12);
        for (name, image) in [
            ("as it is", drawn(&text, 4)),
            ("two pixels a square", drawn(&text, 2)),
            ("on a light terminal", light),
            ("turned a little", photographed(&large, 7.0, 0.0, 700)),
            ("turned the other way and leaning", photographed(&large, -12.0, 0.08, 900)),
            ("upside down", photographed(&large, 180.0, 0.05, 820)),
            ("large", imageops::resize(&photographed(&large, 3.0, 0.03, 700), 2_000, 2_000, FilterType::Nearest)),
        ] {
            let format = if image.width() > 800 { ImageFormat::Jpeg } else { ImageFormat::Png };
            assert_eq!(invitation(name, &file(&image, format)).ok().as_ref(), Some(&wanted), "{name} as {format:?}");
        }
    }

    #[test]
    fn of_several_codes_ours_is_taken_and_where_that_is_not_one_it_is_said() {
        let beside = |one: &GrayImage, other: &GrayImage| {
            let mut both =
                GrayImage::from_pixel(one.width() + other.width(), one.height().max(other.height()), Luma([235]));
            imageops::replace(&mut both, one, 0, 0);
            imageops::replace(&mut both, other, i64::from(one.width()), 0);
            file(&both, ImageFormat::Png)
        };
        let (ours, foreign) = (drawn(&machine(1).reveal(), 5), drawn("https://example.org/menu", 5));
        assert_eq!(invitation("p", &beside(&foreign, &ours)).ok(), Some(machine(1)));
        let cut = machine(1).reveal();
        for (bytes, part) in [
            (beside(&ours, &drawn(&machine(2).reveal(), 5)), "several machines"),
            (beside(&foreign, &drawn("x", 5)), "2 QR codes, and none"),
            (file(&GrayImage::from_pixel(300, 300, Luma([200])), ImageFormat::Png), "no QR code is found"),
            (file(&drawn(&cut[..90], 5), ImageFormat::Png), "the QR code in `p` cannot be used"),
            (file(&ours, ImageFormat::Png)[..2_00].to_vec(), "cannot be read as a picture"),
        ] {
            let report = invitation("p", &bytes).unwrap_err();
            assert!(report.to_string().contains(part) && report.exit_code() == 2, "{part}: {report}");
        }
    }
}
