// Classifies pictures with a .tflite file of edgepress; its preprocessing and labels are in the file.
// Pod: TensorFlowLiteC. (TensorFlowLiteSwift's Tensor knows no int8, which our integer files have at
// both ends.)
import Foundation
import TensorFlowLiteC

/// The entry `name` among the metadata of a .tflite file (a FlatBuffer).
func readMetadata(_ file: Data, _ name: String) throws -> Data {
    func number(_ at: Int, _ bytes: Int) -> Int {
        (0..<bytes).reduce(0) { $0 | Int(file[file.startIndex + at + $1]) << (8 * $1) }
    }
    func follow(_ at: Int) -> Int { at + number(at, 4) }
    func field(_ table: Int, _ index: Int) -> Int? {  // where the table has its field, or nil
        let layout = table - Int(Int32(truncatingIfNeeded: number(table, 4)))
        let place = 4 + 2 * index
        guard place < number(layout, 2), number(layout + place, 2) != 0 else { return nil }
        return table + number(layout + place, 2)
    }
    func items(_ vector: Int) -> [Int] { (0..<number(vector, 4)).map { follow(vector + 4 + 4 * $0) } }
    func bytes(_ at: Int) -> Data { file.subdata(in: file.startIndex + at + 4..<file.startIndex + at + 4 + number(at, 4)) }
    let model = follow(0)
    guard let buffers = field(model, 4).map({ items(follow($0)) }),
        let entries = field(model, 6).map({ items(follow($0)) }),
        let entry = entries.first(where: { field($0, 0).map { bytes(follow($0)) } == Data(name.utf8) }),
        let data = field(buffers[field(entry, 1).map { number($0, 4) } ?? 0], 0)
    else { throw LoaderError(message: "the file has no metadata \(name)") }
    return bytes(follow(data))
}

public final class TFLiteClassifier {
    private let about: About
    private let model: OpaquePointer
    private let interpreter: OpaquePointer

    public init(path: String) throws {
        let file = try Data(contentsOf: URL(fileURLWithPath: path))
        about = try JSONDecoder().decode(About.self, from: readMetadata(file, "edgepress"))
        guard let model = TfLiteModelCreateFromFile(path),
            let interpreter = TfLiteInterpreterCreate(model, nil),
            TfLiteInterpreterAllocateTensors(interpreter) == kTfLiteOk
        else { throw LoaderError(message: "\(path) cannot be loaded") }
        (self.model, self.interpreter) = (model, interpreter)
    }

    deinit {
        TfLiteInterpreterDelete(interpreter)
        TfLiteModelDelete(model)
    }

    /// The likeliest class and its probability.
    public func classify(_ image: Image) throws -> (label: String, probability: Float) {
        let found = try logits(image)
        let best = found.indices.max { found[$0] < found[$1] }!
        return (about.classes[best], 1 / found.reduce(0) { $0 + exp($1 - found[best]) })
    }

    /// The net's outputs, one a class, before softmax; integer ends are converted here.
    public func logits(_ image: Image) throws -> [Float] {
        let values = try prepare(image, about)
        guard let input = TfLiteInterpreterGetInputTensor(interpreter, 0) else {
            throw LoaderError(message: "the file has no input")
        }
        let from = TfLiteTensorQuantizationParams(input)
        let codes = values.map { value -> Int8 in
            from.scale == 0 ? 0 : Int8(max(-128, min(127, (value / from.scale).rounded(.toNearestOrEven) + Float(from.zero_point))))
        }
        let copied = TfLiteTensorType(input) == kTfLiteInt8
            ? codes.withUnsafeBytes { TfLiteTensorCopyFromBuffer(input, $0.baseAddress, $0.count) }
            : values.withUnsafeBytes { TfLiteTensorCopyFromBuffer(input, $0.baseAddress, $0.count) }
        guard copied == kTfLiteOk, TfLiteInterpreterInvoke(interpreter) == kTfLiteOk,
            let output = TfLiteInterpreterGetOutputTensor(interpreter, 0), let data = TfLiteTensorData(output)
        else { throw LoaderError(message: "the net did not run") }
        let to = TfLiteTensorQuantizationParams(output), size = TfLiteTensorByteSize(output)
        if TfLiteTensorType(output) == kTfLiteInt8 {
            let found = UnsafeBufferPointer(start: data.assumingMemoryBound(to: Int8.self), count: size)
            return found.map { Float(Int32($0) - to.zero_point) * to.scale }
        }
        return Array(UnsafeBufferPointer(start: data.assumingMemoryBound(to: Float.self), count: size / 4))
    }
}
