// Classifies pictures with an .onnx file of edgepress; its preprocessing and labels are in the file.
// Needs onnxruntime (its C++ header and library) and nlohmann/json.
#pragma once
#include <onnxruntime_cxx_api.h>

#include <string>
#include <utility>

#include "preprocess.hpp"

namespace edgepress {

class OnnxClassifier {
 public:
  explicit OnnxClassifier(const ORTCHAR_T* path) : session_(env_, path, Ort::SessionOptions{}) {
    Ort::AllocatorWithDefaultOptions memory;
    auto text = session_.GetModelMetadata().LookupCustomMetadataMapAllocated("edgepress", memory);
    if (!text) throw std::runtime_error("the file has no edgepress metadata");
    about_ = nlohmann::json::parse(text.get());
  }

  // The net's outputs, one a class, before softmax.
  std::vector<float> logits(const Image& image) {
    auto values = prepare(image, about_);
    const auto& input = about_.at("inputs")[0];
    const auto shape = input.at("shape").get<std::vector<int64_t>>();
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto tensor = Ort::Value::CreateTensor<float>(memory, values.data(), values.size(),
                                                  shape.data(), shape.size());
    const auto name = input.at("name").get<std::string>();
    const char *in = name.c_str(), *out = "logits";
    auto answer = session_.Run(Ort::RunOptions{nullptr}, &in, &tensor, 1, &out, 1);
    const float* first = answer[0].GetTensorData<float>();
    return {first, first + answer[0].GetTensorTypeAndShapeInfo().GetElementCount()};
  }

  // The likeliest class and its probability.
  std::pair<std::string, float> classify(const Image& image) {
    const auto found = logits(image);
    const auto best = std::max_element(found.begin(), found.end());
    float total = 0;
    for (float value : found) total += std::exp(value - *best);
    return {about_.at("classes")[best - found.begin()], 1 / total};
  }

 private:
  Ort::Env env_{ORT_LOGGING_LEVEL_WARNING, "edgepress"};
  Ort::Session session_;
  nlohmann::json about_;
};

}  // namespace edgepress
