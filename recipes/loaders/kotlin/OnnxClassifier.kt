// Classifies pictures with an .onnx file of edgepress; its preprocessing and labels are in the file.
// Gradle: implementation("com.microsoft.onnxruntime:onnxruntime-android:VERSION")
package edgepress

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import java.nio.FloatBuffer
import kotlin.math.exp
import org.json.JSONObject

class OnnxClassifier(path: String) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session = environment.createSession(path)
    private val about = JSONObject(session.metadata.customMetadata.getValue("edgepress"))
    private val labels = about.getJSONArray("classes")

    /** The likeliest class and its probability. */
    fun classify(image: Image): Pair<String, Double> {
        val logits = logits(image)
        val best = logits.indices.maxBy { logits[it] }
        return labels.getString(best) to 1 / logits.sumOf { exp((it - logits[best]).toDouble()) }
    }

    /** The net's outputs, one a class, before softmax. */
    fun logits(image: Image): FloatArray {
        val input = about.getJSONArray("inputs").getJSONObject(0)
        val shape = input.getJSONArray("shape").let { s -> LongArray(s.length()) { s.getLong(it) } }
        val values = FloatBuffer.wrap(prepare(image, about))
        OnnxTensor.createTensor(environment, values, shape).use { tensor ->
            session.run(mapOf(input.getString("name") to tensor)).use { answer ->
                val buffer = (answer[0] as OnnxTensor).floatBuffer
                return FloatArray(buffer.remaining()).also(buffer::get)
            }
        }
    }

    override fun close() = session.close()
}
