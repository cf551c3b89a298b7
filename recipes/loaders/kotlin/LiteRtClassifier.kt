// Classifies pictures with a .tflite file of edgepress; its preprocessing and labels are in the file.
// Gradle: implementation("com.google.ai.edge.litert:litert:1.4.0"), which has org.tensorflow.lite.
package edgepress

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.exp
import kotlin.math.round
import org.json.JSONObject
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

/** The text of the entry `name` among the metadata of a .tflite file (a FlatBuffer). */
fun readMetadata(file: ByteBuffer, name: String): String {
    file.order(ByteOrder.LITTLE_ENDIAN)
    fun follow(at: Int) = at + file.getInt(at)
    fun field(table: Int, number: Int): Int? { // where the table has its field, or null
        val layout = table - file.getInt(table)
        val place = 4 + 2 * number
        if (place >= file.getShort(layout)) return null
        return file.getShort(layout + place).toInt().takeIf { it != 0 }?.let { table + it }
    }
    fun items(vector: Int) = (0 until file.getInt(vector)).map { follow(vector + 4 + 4 * it) }
    fun text(at: Int) = String(ByteArray(file.getInt(at)) { file.get(at + 4 + it) })
    val model = follow(0)
    val buffers = items(follow(checkNotNull(field(model, 4))))
    val entries = items(follow(checkNotNull(field(model, 6)) { "the file has no metadata" }))
    val entry = entries.first { text(follow(field(it, 0)!!)) == name }
    val buffer = buffers[field(entry, 1)?.let(file::getInt) ?: 0]
    return text(follow(checkNotNull(field(buffer, 0))))
}

class LiteRtClassifier(model: ByteBuffer, threads: Int = 1) : AutoCloseable {
    private val about = JSONObject(readMetadata(model, "edgepress"))
    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))
    private val labels = about.getJSONArray("classes")

    constructor(path: String) : this(
        File(path).readBytes().let { ByteBuffer.allocateDirect(it.size).apply { put(it).rewind() } }
    )

    /** The likeliest class and its probability. */
    fun classify(image: Image): Pair<String, Double> {
        val logits = logits(image)
        val best = logits.indices.maxBy { logits[it] }
        return labels.getString(best) to 1 / logits.sumOf { exp((it - logits[best]).toDouble()) }
    }

    /** The net's outputs, one a class, before softmax; integer ends are converted here. */
    fun logits(image: Image): FloatArray {
        val (input, output) = interpreter.getInputTensor(0) to interpreter.getOutputTensor(0)
        val (given, answer) = listOf(input, output).map {
            ByteBuffer.allocateDirect(it.numBytes()).order(ByteOrder.nativeOrder())
        }
        val (from, to) = input.quantizationParams() to output.quantizationParams()
        for (value in prepare(image, about)) {
            if (input.dataType() == DataType.FLOAT32) given.putFloat(value)
            else given.put((round(value / from.scale) + from.zeroPoint).toInt().coerceIn(-128, 127).toByte())
        }
        interpreter.run(given.rewind(), answer)
        answer.rewind()
        return FloatArray(output.numElements()) {
            if (output.dataType() == DataType.FLOAT32) answer.getFloat()
            else (answer.get() - to.zeroPoint) * to.scale
        }
    }

    override fun close() = interpreter.close()
}
