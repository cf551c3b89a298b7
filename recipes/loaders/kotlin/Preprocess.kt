// From a picture's pixels to a net's input, as the metadata `edgepress` in the file asks for.
// Bilinear resizing, or none; the arithmetic is that of edgepress (Bitmap.createScaledBitmap's is
// another). Needs org.json, which is part of Android.
package edgepress

import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round // half to even
import org.json.JSONArray
import org.json.JSONObject

/** `argb` as Bitmap.getPixels gives it: one Int a pixel, row by row from the top. */
class Image(val width: Int, val height: Int, val argb: IntArray)

/** Resizes the width w of (h, w, c) and turns the picture: (out, h, c). Twice resizes both sides. */
private fun turnResized(x: DoubleArray, h: Int, w: Int, c: Int, out: Int, antialias: Boolean): DoubleArray {
    val scale = w.toDouble() / out
    val reach = if (antialias) max(scale, 1.0) else 1.0
    val y = DoubleArray(out * h * c)
    for (i in 0 until out) {
        val centre = (i + 0.5) * scale
        val taps = max(0, (centre - reach + 0.5).toInt()) until min(w, (centre + reach + 0.5).toInt())
        val shares = taps.map { 1 - abs(it + 0.5 - centre) / reach }
        val weights = shares.map { // Pillow's have 22 bits behind the point
            val weight = it / shares.sum()
            if (antialias) floor(weight * 4194304 + 0.5) / 4194304 else weight
        }
        for (row in 0 until h) for (channel in 0 until c) {
            var sum = 0.0
            for (k in taps) sum += weights[k - taps.first] * x[(row * w + k) * c + channel]
            y[(i * h + row) * c + channel] = if (antialias) floor(sum + 0.5) else sum
        }
    }
    return y
}

/** The float values of one picture, in the layout that the file's input has (NCHW or NHWC). */
fun prepare(image: Image, about: JSONObject): FloatArray {
    val how = about.getJSONObject("preprocess")
    val order = how.getString("channel_order")
    var (h, w) = image.height to image.width
    val c = if (order == "GREY") 1 else 3
    var x = DoubleArray(h * w * c) { i ->
        val pixel = image.argb[i / c]
        val (red, green, blue) = listOf(pixel shr 16 and 255, pixel shr 8 and 255, pixel and 255)
        when {
            c == 1 -> (red * 19595 + green * 38470 + blue * 7471 + 0x8000) shr 16
            i % 3 == 1 -> green
            else -> if ((i % 3 == 0) == (order == "RGB")) red else blue
        }.toDouble()
    }
    val resize = how.opt("resize")
    val (tall, wide) = when {
        resize is JSONArray -> resize.getInt(0) to resize.getInt(1)
        resize !is Number -> h to w
        h <= w -> resize.toInt() to (resize.toDouble() * w / h).toInt() // of the shorter side
        else -> (resize.toDouble() * h / w).toInt() to resize.toInt()
    }
    if (tall != h || wide != w) {
        require(how.getString("interpolation") == "bilinear") { "resizing is not bilinear" }
        x = turnResized(x, h, w, c, wide, how.getBoolean("antialias"))
        x = turnResized(x, wide, h, c, tall, how.getBoolean("antialias"))
        for (i in x.indices) x[i] = round(x[i])
        h = tall
        w = wide
    }
    val sideH = how.optInt("crop", h)
    val sideW = how.optInt("crop", w)
    require(sideH <= h && sideW <= w) { "the picture is smaller than the crop" }
    val top = round((h - sideH) / 2.0).toInt()
    val left = round((w - sideW) / 2.0).toInt()
    val scale = how.getDouble("scale").toFloat()
    val (mean, std) = listOf("mean", "std").map { name ->
        val numbers = how.getJSONArray(name)
        FloatArray(c) { numbers.getDouble(it % numbers.length()).toFloat() }
    }
    val planes = about.getJSONArray("inputs").getJSONObject(0).getString("layout") == "NCHW"
    val result = FloatArray(sideH * sideW * c)
    for (row in 0 until sideH) for (column in 0 until sideW) for (k in 0 until c) {
        val pixel = x[((top + row) * w + left + column) * c + k].toFloat()
        val place = if (planes) (k * sideH + row) * sideW + column else (row * sideW + column) * c + k
        result[place] = (pixel * scale - mean[k]) / std[k]
    }
    return result
}
