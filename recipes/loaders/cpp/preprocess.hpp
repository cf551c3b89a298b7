// From 8-bit RGB pixels to a net's input, as the metadata `edgepress` in the file asks for.
// Needs nlohmann/json. Bilinear resizing, or none; the arithmetic is that of edgepress, and so
// Pillow's where `antialias` is true and OpenCV's where it is false.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

namespace edgepress {

struct Image {
  int width, height;
  std::vector<uint8_t> rgb;  // red, green, blue, row by row from the top
};

// Resizes the width w of (h, w, c) and turns the picture: (out, h, c). Twice resizes both sides.
inline std::vector<double> turn_resized(const std::vector<double>& x, int h, int w, int c, int out,
                                        bool antialias) {
  const double scale = double(w) / out, reach = antialias ? std::max(scale, 1.0) : 1.0;
  std::vector<double> y(size_t(out) * h * c);
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, int(centre - reach + 0.5));
    const int last = std::min(w, int(centre + reach + 0.5));
    std::vector<double> weights;
    double total = 0;
    for (int k = first; k < last; ++k) {
      weights.push_back(1 - std::abs(k + 0.5 - centre) / reach);
      total += weights.back();
    }
    for (double& weight : weights)  // Pillow's have 22 bits behind the point
      weight = antialias ? std::floor(weight / total * 4194304 + 0.5) / 4194304 : weight / total;
    for (int row = 0; row < h; ++row)
      for (int channel = 0; channel < c; ++channel) {
        double sum = 0;
        for (int k = first; k < last; ++k)
          sum += weights[k - first] * x[(size_t(row) * w + k) * c + channel];
        y[(size_t(i) * h + row) * c + channel] = antialias ? std::floor(sum + 0.5) : sum;
      }
  }
  return y;
}

// The float values of one picture, in the layout that the file's input has (NCHW or NHWC).
inline std::vector<float> prepare(const Image& image, const nlohmann::json& about) {
  const auto& how = about.at("preprocess");
  const auto order = how.at("channel_order").get<std::string>();
  int h = image.height, w = image.width;
  const int c = order == "GREY" ? 1 : 3;
  std::vector<double> x(size_t(h) * w * c);
  for (size_t i = 0; i < size_t(h) * w; ++i) {
    const uint8_t* rgb = &image.rgb[3 * i];
    if (c == 1) x[i] = (rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000) >> 16;
    for (int k = 0; c == 3 && k < 3; ++k) x[3 * i + k] = rgb[order == "BGR" ? 2 - k : k];
  }
  const auto& resize = how.at("resize");
  int tall = h, wide = w;
  if (resize.is_array()) {
    tall = resize[0], wide = resize[1];
  } else if (resize.is_number()) {  // the length of the shorter side
    const int side = resize;
    tall = h <= w ? side : int(double(side) * h / w);
    wide = h <= w ? int(double(side) * w / h) : side;
  }
  if (tall != h || wide != w) {
    if (how.at("interpolation") != "bilinear") throw std::runtime_error("resizing is not bilinear");
    x = turn_resized(x, h, w, c, wide, how.at("antialias"));
    x = turn_resized(x, wide, h, c, tall, how.at("antialias"));
    for (double& value : x) value = std::nearbyint(value);
    h = tall, w = wide;
  }
  const int side_h = how.at("crop").is_null() ? h : int(how.at("crop"));
  const int side_w = how.at("crop").is_null() ? w : int(how.at("crop"));
  if (side_h > h || side_w > w) throw std::runtime_error("the picture is smaller than the crop");
  const int top = int(std::nearbyint((h - side_h) / 2.0));  // half to even
  const int left = int(std::nearbyint((w - side_w) / 2.0));
  const auto mean = how.at("mean").get<std::vector<float>>();
  const auto std = how.at("std").get<std::vector<float>>();
  const float scale = how.at("scale");
  const bool planes = about.at("inputs")[0].at("layout") == "NCHW";
  std::vector<float> result(size_t(side_h) * side_w * c);
  for (int row = 0; row < side_h; ++row)
    for (int column = 0; column < side_w; ++column)
      for (int k = 0; k < c; ++k) {
        const float pixel = float(x[(size_t(top + row) * w + left + column) * c + k]);
        const size_t place = planes ? (size_t(k) * side_h + row) * side_w + column
                                    : (size_t(row) * side_w + column) * c + k;
        result[place] = (pixel * scale - mean[k % mean.size()]) / std[k % std.size()];
      }
  return result;
}

}  // namespace edgepress
