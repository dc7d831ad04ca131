#include "checkpoints/checkpoint.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hdf5.h"
#include "core/base/log.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kVersion = 1;
constexpr const char* kWritingPrefix = ".writing-";
constexpr int64_t kChunkElements = 1 << 18;
constexpr const char* kStreams = "streams/";
const std::vector<std::string> kTensorKinds = {"weights", "first_moments", "second_moments"};

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return name;
}

bool is_step_name(const std::string& name) {
  return name.rfind("step-", 0) == 0 && name.size() > 5 &&
         std::all_of(name.begin() + 5, name.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

// A view of `flat` shaped like the parameter.
Tensor part_of(const Tensor& flat, const Parameter& p) {
  return flat.narrow(0, p.offset, p.value.numel()).view(p.value.sizes());
}

void write_tensor(Hdf5File& file, const std::string& name, const Tensor& tensor) {
  const Tensor host = tensor.detach().to(at::kCPU).contiguous();
  Hdf5Layout layout;
  layout.fletcher32 = host.dim() > 0;
  if (host.dim() > 0)
    layout.chunk_elements = std::clamp<int64_t>(
        kChunkElements * host.size(0) / std::max<int64_t>(1, host.numel()), 1, host.size(0));
  const auto shape = host.sizes().vec();
  if (host.scalar_type() == at::kDouble) {
    file.write(name, shape, host.const_data_ptr<double>(), layout);
  } else {
    file.write(name, shape, host.const_data_ptr<float>(), layout);
  }
}

const char* type_name(const Tensor& t) {
  return t.scalar_type() == at::kDouble ? "float64" : "float32";
}

// `out` has the dataset's shape and element type.
void read_values(const Hdf5File& file, const std::string& name, Tensor* out) {
  if (out->scalar_type() == at::kDouble) {
    const auto data = file.read<double>(name);
    std::copy(data.begin(), data.end(), out->mutable_data_ptr<double>());
  } else {
    const auto data = file.read<float>(name);
    std::copy(data.begin(), data.end(), out->mutable_data_ptr<float>());
  }
}

Tensor read_tensor(const Hdf5File& file, const std::string& name, const Parameter& like) {
  require<DataError>(file.has(name), file.path(), ": tensor '", name,
                     "' is missing (the checkpoint belongs to another model, or is damaged). "
                     "Use the config that it was written with.");
  const auto shape = file.shape(name);
  require<DataError>(at::IntArrayRef(shape) == like.value.sizes(), file.path(), ": '", name, "' has shape ",
                     at::IntArrayRef(shape), ", the model wants ", like.value.sizes(),
                     ". Use the config that it was written with.");
  require<DataError>(file.element_type(name) == type_name(like.value), file.path(), ": '", name, "' is ",
                     file.element_type(name), ", the model wants ", type_name(like.value),
                     ". Use the train.dtype that it was written with.");
  Tensor out = at::empty(like.value.sizes(), at::TensorOptions().dtype(like.value.scalar_type()));
  read_values(file, name, &out);
  return out;
}

json manifest_of(const CheckpointContent& c) {
  const TrainingProgress& p = c.progress;
  json tensors = json::array();
  for (const Parameter& parameter : c.parameters.all()) {
    tensors.push_back({{"name", parameter.name},
                       {"shape", parameter.value.sizes().vec()},
                       {"dtype", type_name(parameter.value)}});
  }
  return {{"format", "fwl-checkpoint"},
          {"version", kVersion},
          {"step", p.step},
          {"tokens", p.tokens},
          {"samples", p.samples},
          {"order_hash", p.order_hash},
          {"updates", p.updates},
          {"skipped", p.skipped},
          {"skipped_in_a_row", p.skipped_in_a_row},
          {"loss_sum", p.loss_sum},
          {"slow_loss_sum", p.slow_loss_sum},
          {"loss_tokens", p.loss_tokens},
          {"config", c.config_yaml},
          {"tokenizer", c.tokenizer_kind},
          {"tensors", tensors}};
}

void write_state(const std::string& path, const CheckpointContent& c) {
  Hdf5File file = Hdf5File::create(path);
  file.set_attribute("format", std::string("fwl-checkpoint"));
  const Tensor* flats[] = {nullptr, &c.first_moments, &c.second_moments};
  for (const Parameter& p : c.parameters.all()) {
    for (size_t kind = 0; kind < kTensorKinds.size(); ++kind) {
      write_tensor(file, kTensorKinds[kind] + "/" + p.name, kind == 0 ? p.value : part_of(*flats[kind], p));
    }
  }
  if (!c.streams.next_token.empty()) {
    file.write(cat(kStreams, "next_token"), {static_cast<int64_t>(c.streams.next_token.size())},
               c.streams.next_token.data(), {});
    file.write(cat(kStreams, "document"), {static_cast<int64_t>(c.streams.document.size())},
               c.streams.document.data(), {});
    file.write(cat(kStreams, "position"), {1}, &c.streams.position, {});
    for (const auto& [name, tensor] : c.streams.tensors)
      write_tensor(file, cat(kStreams, "tensor.", name), tensor);
  }
  file.close();
}

void remove_unfinished(const std::string& dir) {
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (entry.path().filename().string().rfind(kWritingPrefix, 0) == 0) fs::remove_all(entry.path());
  }
}

void remove_old(const std::string& dir, int64_t keep) {
  const auto all = list_checkpoints(dir);
  for (size_t i = static_cast<size_t>(keep); keep > 0 && i < all.size(); ++i) fs::remove_all(all[i]);
}

json parse_manifest(const std::string& path) {
  const std::string text = read_file(path, "checkpoint manifest");
  json manifest = json::parse(text, nullptr, /*allow_exceptions=*/false);
  require<DataError>(
      manifest.is_object() && manifest.value("format", json()).is_string() &&
          manifest["format"] == "fwl-checkpoint",
      path,
      ": not the manifest of an fwl checkpoint (it is damaged or something else). Use another checkpoint.");
  require<DataError>(manifest.value("version", json()) == kVersion, path, ": format version ",
                     manifest.value("version", json()).dump(), " is unknown (this program reads version ",
                     kVersion, "). Use the fwl that wrote it.");
  return manifest;
}

}  // namespace

std::string write_checkpoint(const std::string& checkpoints_dir, const CheckpointContent& content,
                             int64_t keep) {
  const std::string name = step_name(content.progress.step);
  const std::string target = checkpoints_dir + "/" + name;
  const std::string writing = checkpoints_dir + "/" + kWritingPrefix + name;
  try {
    fs::create_directories(checkpoints_dir);
    remove_unfinished(checkpoints_dir);
    fs::create_directory(writing);
    write_state(writing + "/state.h5", content);
    if (!content.tokenizer_bytes.empty()) publish_file(writing + "/tokenizer.model", content.tokenizer_bytes);
    publish_file(writing + "/manifest.json", manifest_of(content).dump(1) + "\n");
    sync_path(writing);
    fs::remove_all(target);  // a checkpoint of this step from an earlier try, now replaced
    fs::rename(writing, target);
    sync_path(checkpoints_dir);
    publish_file(checkpoints_dir + "/latest", name + "\n");
    remove_old(checkpoints_dir, keep);
  } catch (const fs::filesystem_error& error) {
    throw DataError(cat("checkpoint '", target, "' could not be written: ", error.what(),
                        ". Free space or check the folder's permissions."));
  }
  return target;
}

std::vector<std::string> list_checkpoints(const std::string& checkpoints_dir) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(checkpoints_dir, error)) {
    if (entry.is_directory() && is_step_name(entry.path().filename().string()))
      found.push_back(entry.path().string());
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

std::string find_checkpoint(const std::string& path) {
  require<DataError>(fs::is_directory(path), "checkpoint '", path,
                     "' does not exist. Give a run's folder or one of its checkpoints.");
  if (fs::exists(path + "/manifest.json")) return path;
  for (const std::string& dir : {path + "/checkpoints", path}) {
    const auto all = list_checkpoints(dir);
    if (!all.empty()) return all.front();
  }
  throw DataError(cat("'", path, "' holds no checkpoint. Give a run's folder or one of its checkpoints."));
}

CheckpointInfo read_checkpoint_info(const std::string& step_dir) {
  const json m = parse_manifest(step_dir + "/manifest.json");
  CheckpointInfo info;
  info.path = step_dir;
  try {
    TrainingProgress& p = info.progress;
    p.step = m.at("step");
    p.tokens = m.at("tokens");
    p.samples = m.at("samples");
    p.order_hash = m.value("order_hash", uint64_t{0});
    p.updates = m.at("updates");
    p.skipped = m.at("skipped");
    p.skipped_in_a_row = m.at("skipped_in_a_row");
    p.loss_sum = m.at("loss_sum");
    p.slow_loss_sum = m.at("slow_loss_sum");
    p.loss_tokens = m.at("loss_tokens");
    info.config_yaml = m.at("config");
    info.tokenizer_kind = m.at("tokenizer");
  } catch (const json::exception& error) {
    throw DataError(cat(step_dir, "/manifest.json: ", error.what(),
                        " (the manifest is damaged). Use another checkpoint."));
  }
  if (info.tokenizer_kind != "byte")
    info.tokenizer_bytes = read_file(step_dir + "/tokenizer.model", "the checkpoint's tokenizer");
  return info;
}

void read_checkpoint_tensors(const std::string& step_dir, Parameters& parameters, Tensor* first_moments,
                             Tensor* second_moments) {
  const Hdf5File file = Hdf5File::open(step_dir + "/state.h5", "checkpoint");
  Tensor* flats[] = {&parameters.values(), first_moments, second_moments};
  std::vector<std::pair<Tensor, Tensor>> copies;  // (target, value): nothing is changed until all is read
  for (const Parameter& p : parameters.all()) {
    for (size_t kind = 0; kind < kTensorKinds.size(); ++kind) {
      if (flats[kind] == nullptr) continue;
      copies.emplace_back(part_of(*flats[kind], p), read_tensor(file, kTensorKinds[kind] + "/" + p.name, p));
    }
  }
  const size_t expected = parameters.all().size() * kTensorKinds.size();
  const auto names = file.datasets();
  const auto found = static_cast<size_t>(std::count_if(
      names.begin(), names.end(), [](const std::string& name) { return name.rfind(kStreams, 0) != 0; }));
  require<DataError>(found == expected, file.path(), " holds ", found, " tensors, the model wants ", expected,
                     " (it belongs to another model). Use the config that it was written with.");
  const at::NoGradGuard no_grad;
  for (auto& [target, value] : copies) target.copy_(value);
}

CarriedStreams read_checkpoint_streams(const std::string& step_dir) {
  const Hdf5File file = Hdf5File::open(step_dir + "/state.h5", "checkpoint");
  CarriedStreams streams;
  const std::string prefix = cat(kStreams, "tensor.");
  if (!file.has(cat(kStreams, "next_token"))) return streams;
  streams.next_token = file.read<int64_t>(cat(kStreams, "next_token"));
  streams.document = file.read<int64_t>(cat(kStreams, "document"));
  streams.position = file.read<int64_t>(cat(kStreams, "position")).at(0);
  for (const std::string& name : file.datasets()) {
    if (name.rfind(prefix, 0) != 0) continue;
    const bool wide = file.element_type(name) == "float64";
    Tensor value = at::empty(file.shape(name), at::TensorOptions().dtype(wide ? at::kDouble : at::kFloat));
    read_values(file, name, &value);
    streams.tensors.emplace_back(name.substr(prefix.size()), value);
  }
  return streams;
}

}  // namespace fwl
