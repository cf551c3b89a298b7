// From 8-bit RGB pixels to a net's input, as the metadata `edgepress` in the file asks for.
// Bilinear resizing, or none; the arithmetic is that of edgepress (Core Graphics' is another).
import Foundation

public struct Image {
    public let width: Int, height: Int
    public let rgb: [UInt8]  // red, green, blue, row by row from the top
}

public struct About: Decodable {
    public struct Preprocess: Decodable {
        let resize: Resize?, crop: Int?
        let interpolation: String, antialias: Bool, channel_order: String
        let scale: Float, mean: [Float], std: [Float]
    }
    public struct Input: Decodable { let name: String, shape: [Int], layout: String }
    public enum Resize: Decodable {
        case shorter(Int), both([Int])
        public init(from decoder: Decoder) throws {
            let value = try decoder.singleValueContainer()
            if let side = try? value.decode(Int.self) { self = .shorter(side) }
            else { self = .both(try value.decode([Int].self)) }
        }
    }
    let classes: [String], preprocess: Preprocess, inputs: [Input]
}

public struct LoaderError: Error { let message: String }

/// Resizes the width w of (h, w, c) and turns the picture: (out, h, c). Twice resizes both sides.
func turnResized(_ x: [Double], _ h: Int, _ w: Int, _ c: Int, _ out: Int, _ antialias: Bool) -> [Double] {
    let scale = Double(w) / Double(out), reach = antialias ? max(scale, 1) : 1
    var y = [Double](repeating: 0, count: out * h * c)
    for i in 0..<out {
        let centre = (Double(i) + 0.5) * scale
        let taps = max(0, Int(centre - reach + 0.5))..<min(w, Int(centre + reach + 0.5))
        let shares = taps.map { 1 - abs(Double($0) + 0.5 - centre) / reach }
        let total = shares.reduce(0, +)
        let weights = shares.map {  // Pillow's have 22 bits behind the point
            antialias ? ($0 / total * 4_194_304 + 0.5).rounded(.down) / 4_194_304 : $0 / total
        }
        for row in 0..<h {
            for channel in 0..<c {
                var sum = 0.0
                for (k, weight) in zip(taps, weights) { sum += weight * x[(row * w + k) * c + channel] }
                y[(i * h + row) * c + channel] = antialias ? (sum + 0.5).rounded(.down) : sum
            }
        }
    }
    return y
}

/// The float values of one picture, in the layout that the file's input has (NCHW or NHWC).
public func prepare(_ image: Image, _ about: About) throws -> [Float] {
    let how = about.preprocess
    let c = how.channel_order == "GREY" ? 1 : 3
    var (h, w) = (image.height, image.width)
    var x = (0..<h * w * c).map { (i: Int) -> Double in
        let first = i / c * 3
        if c == 1 {
            let (red, green, blue) = (Int(image.rgb[first]), Int(image.rgb[first + 1]), Int(image.rgb[first + 2]))
            return Double((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16)
        }
        return Double(image.rgb[first + (how.channel_order == "BGR" ? 2 - i % 3 : i % 3)])
    }
    var (tall, wide) = (h, w)
    switch how.resize {
    case .both(let sides)?: (tall, wide) = (sides[0], sides[1])
    case .shorter(let side)?:
        tall = h <= w ? side : Int(Double(side) * Double(h) / Double(w))
        wide = h <= w ? Int(Double(side) * Double(w) / Double(h)) : side
    case nil: break
    }
    if (tall, wide) != (h, w) {
        guard how.interpolation == "bilinear" else { throw LoaderError(message: "resizing is not bilinear") }
        x = turnResized(x, h, w, c, wide, how.antialias)
        x = turnResized(x, wide, h, c, tall, how.antialias).map { $0.rounded(.toNearestOrEven) }
        (h, w) = (tall, wide)
    }
    let (sideH, sideW) = (how.crop ?? h, how.crop ?? w)
    guard sideH <= h, sideW <= w else { throw LoaderError(message: "the picture is smaller than the crop") }
    let top = Int((Double(h - sideH) / 2).rounded(.toNearestOrEven))
    let left = Int((Double(w - sideW) / 2).rounded(.toNearestOrEven))
    let planes = about.inputs[0].layout == "NCHW"
    var result = [Float](repeating: 0, count: sideH * sideW * c)
    for row in 0..<sideH {
        for column in 0..<sideW {
            for k in 0..<c {
                let pixel = Float(x[((top + row) * w + left + column) * c + k])
                let place = planes ? (k * sideH + row) * sideW + column : (row * sideW + column) * c + k
                result[place] =
                    (pixel * how.scale - how.mean[k % how.mean.count]) / how.std[k % how.std.count]
            }
        }
    }
    return result
}
