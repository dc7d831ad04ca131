#include "checkpoints/manifest.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace fwl {
namespace {

using nlohmann::json;

constexpr int64_t kVersion = 2;
constexpr const char* kFormat = "fwl-checkpoint";

const std::vector<std::pair<at::ScalarType, std::string>>& dtypes() {
  static const std::vector<std::pair<at::ScalarType, std::string>> all = {{at::kFloat, "float32"},
                                                                          {at::kDouble, "float64"},
                                                                          {at::kBFloat16, "bfloat16"},
                                                                          {at::kLong, "int64"},
                                                                          {at::kByte, "uint8"}};
  return all;
}

json tensors_to_json(const std::map<std::string, TensorEntry>& tensors) {
  json out = json::object();
  for (const auto& [name, tensor] : tensors) {
    json slices = json::array();
    for (const SliceEntry& s : tensor.slices)
      slices.push_back({s.file, s.dataset, s.first, s.count, checksum_text(s.checksum)});
    out[name] = {{"dtype", dtype_name(tensor.dtype)}, {"shape", tensor.shape}, {"slices", slices}};
  }
  return out;
}

std::map<std::string, TensorEntry> tensors_from_json(const json& from, const std::string& where) {
  std::map<std::string, TensorEntry> tensors;
  for (const auto& [name, entry] : from.items()) {
    TensorEntry& tensor = tensors[name];
    tensor.dtype = parse_dtype_name(entry.at("dtype"), where);
    tensor.shape = entry.at("shape").get<std::vector<int64_t>>();
    for (const json& s : entry.at("slices"))
      tensor.slices.push_back(
          {s.at(0), s.at(1), s.at(2), s.at(3), static_cast<uint32_t>(parse_hash(s.at(4), where))});
  }
  return tensors;
}

json file_to_json(const FileChecksum& file) {
  return {file.bytes, checksum_text(file.checksum)};
}
FileChecksum file_from_json(const json& from, const std::string& where) {
  return {from.at(0), static_cast<uint32_t>(parse_hash(from.at(1), where))};
}

json anchor_to_json(const OrderAnchor& anchor) {
  return {{"sample", anchor.sample},
          {"rolling_hash", hash_text(anchor.rolling_hash)},
          {"stream_dealt", anchor.stream_dealt},
          {"stream_first_window", anchor.stream_first_window}};
}
OrderAnchor anchor_from_json(const json& from, const std::string& where) {
  return {from.at("sample"), parse_hash(from.at("rolling_hash"), where), from.at("stream_dealt"),
          from.at("stream_first_window")};
}

json info_to_json(const CheckpointInfo& info) {
  const TrainingProgress& p = info.progress;
  const LearningRateState& rate = info.learning_rate;
  json out = {{"program", info.program},
              {"layout",
               {{"ranks", info.layout.ranks},
                {"data", info.layout.data},
                {"sequence", info.layout.sequence},
                {"shard_optimizer", info.layout.shard_optimizer},
                {"device", info.layout.device}}},
              {"step", p.step},
              {"tokens", p.tokens},
              {"updates", p.updates},
              {"skipped", p.skipped},
              {"skipped_in_a_row", p.skipped_in_a_row},
              {"data",
               {{"sample", p.samples},
                {"sequence_hash", hash_text(info.data.sequence_hash)},
                {"rolling_hash", hash_text(info.data.rolling_hash)},
                {"streams", info.data.streams},
                {"stream_position", info.data.stream_position},
                {"stream_tokens", info.data.stream_tokens},
                {"stream_documents", info.data.stream_documents}}},
              {"random", {{"sample_order", {{"seed", info.data.seed}, {"position", p.samples}}}}},
              {"learning_rate",
               {{"next", rate.next},
                {"schedule",
                 {{"peak", rate.peak},
                  {"warmup_steps", rate.warmup_steps},
                  {"steps", rate.steps},
                  {"floor", rate.floor}}}}},
              {"loss", {{"sum", p.loss_sum}, {"slow_sum", p.slow_loss_sum}, {"tokens", p.loss_tokens}}},
              {"config", info.config_yaml}};
  if (info.is_finite) out["finite"] = true;
  // The beginning of the order is not worth a key, and checkpoints from before there were anchors have none.
  if (info.data.anchor.sample > 0) out["data"]["anchor"] = anchor_to_json(info.data.anchor);
  return out;
}

void read_progress(const json& m, TrainingProgress* p) {
  p->step = m.at("step");
  p->tokens = m.at("tokens");
  p->samples = m.at("data").at("sample");
  p->updates = m.at("updates");
  p->skipped = m.at("skipped");
  p->skipped_in_a_row = m.at("skipped_in_a_row");
  p->loss_sum = m.at("loss").at("sum");
  p->slow_loss_sum = m.at("loss").at("slow_sum");
  p->loss_tokens = m.at("loss").at("tokens");
}

CheckpointInfo info_from_json(const json& m, const std::string& where) {
  CheckpointInfo info;
  read_progress(m, &info.progress);
  const json& data = m.at("data");
  info.data = {parse_hash(data.at("sequence_hash"), where),
               parse_hash(data.at("rolling_hash"), where),
               m.at("random").at("sample_order").at("seed"),
               data.at("streams"),
               data.at("stream_position"),
               data.at("stream_tokens"),
               data.at("stream_documents"),
               data.contains("anchor") ? anchor_from_json(data.at("anchor"), where) : OrderAnchor()};
  const json& rate = m.at("learning_rate");
  const json& schedule = rate.at("schedule");
  info.learning_rate = {rate.at("next"), schedule.at("peak"), schedule.at("warmup_steps"),
                        schedule.at("steps"), schedule.at("floor")};
  const json& layout = m.at("layout");
  info.layout = {layout.at("ranks"), layout.at("data"), layout.at("sequence"), layout.at("shard_optimizer"),
                 layout.at("device")};
  info.program = m.at("program").get<std::map<std::string, std::string>>();
  info.config_yaml = m.at("config");
  info.tokenizer_kind = m.at("tokenizer").at("kind");
  info.is_finite = m.value("finite", false);
  return info;
}

// The text of an object with the checksum of its text without that key.
std::string sealed(json object) {
  object.erase("checksum");
  object["checksum"] = checksum_text(checksum_of(object.dump(1)));
  return object.dump(1) + "\n";
}

// Runs `read` on the parsed text; everything that is missing or of another type becomes one kind of error.
template <typename Read>
auto read_sealed(const std::string& text, const std::string& where, Read read) {
  json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  require<DataError>(
      object.is_object() && object.value("format", json()) == kFormat, where,
      ": not the manifest of an fwl checkpoint (it is damaged or something else). Use another checkpoint.");
  const json version = object.value("version", json());
  require<DataError>(version == kVersion, where, ": format version ", version.dump(),
                     " is not read (this fwl reads ", kVersion, "). Use the fwl that wrote it.");
  require<DataError>(sealed(object) == text, where,
                     ": its checksum does not fit (the manifest is damaged). Use another checkpoint.");
  try {
    return read(object);
  } catch (const json::exception& error) {
    throw DataError(cat(where, ": ", error.what(), " (the manifest is damaged). Use another checkpoint."));
  }
}

}  // namespace

int64_t TensorEntry::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [type, name] : dtypes())
    if (type == dtype) return name;
  throw InternalError(cat("a checkpoint cannot hold a tensor of type ", c10::toString(dtype)));
}

at::ScalarType parse_dtype_name(const std::string& name, const std::string& where) {
  for (const auto& [type, known] : dtypes())
    if (known == name) return type;
  throw DataError(
      cat(where, ": unknown dtype '", name, "' (damaged, or from a newer fwl). Use another checkpoint."));
}

std::string print_manifest(const CheckpointManifest& manifest) {
  json out = info_to_json(manifest.info);
  out["format"] = kFormat;
  out["version"] = kVersion;
  out["tokenizer"] = {{"kind", manifest.info.tokenizer_kind}, {"hash", hash_text(manifest.tokenizer_hash)}};
  out["tensors"] = tensors_to_json(manifest.tensors);
  out["files"] = json::object();
  for (const auto& [name, file] : manifest.files) out["files"][name] = file_to_json(file);
  return sealed(std::move(out));
}

CheckpointManifest parse_manifest(const std::string& text, const std::string& where) {
  return read_sealed(text, where, [&](const json& object) {
    CheckpointManifest manifest;
    manifest.info = info_from_json(object, where);
    manifest.tokenizer_hash = parse_hash(object.at("tokenizer").at("hash"), where);
    manifest.tensors = tensors_from_json(object.at("tensors"), where);
    for (const auto& [name, file] : object.at("files").items())
      manifest.files[name] = file_from_json(file, where);
    for (const auto& [name, tensor] : manifest.tensors) check_coverage(name, tensor, where);
    return manifest;
  });
}

std::string print_part_index(const PartIndex& index) {
  return sealed({{"format", kFormat},
                 {"version", kVersion},
                 {"file", index.file},
                 {"checksum_of_file", file_to_json(index.checksum)},
                 {"tensors", tensors_to_json(index.tensors)}});
}

PartIndex parse_part_index(const std::string& text, const std::string& where) {
  return read_sealed(text, where, [&](const json& object) {
    return PartIndex{object.at("file"), file_from_json(object.at("checksum_of_file"), where),
                     tensors_from_json(object.at("tensors"), where)};
  });
}

void check_coverage(const std::string& name, const TensorEntry& tensor, const std::string& where) {
  int64_t next = 0;
  for (const SliceEntry& slice : tensor.slices) {
    require<DataError>(slice.first == next && slice.count > 0, where, ": tensor '", name,
                       "': a slice starts at element ", slice.first, " where ", next,
                       " was due (elements are missing or doubled). Use another checkpoint.");
    next += slice.count;
  }
  require<DataError>(next == tensor.elements(), where, ": tensor '", name, "' has ", next, " of its ",
                     tensor.elements(), " elements (a rank's part is missing). Use another checkpoint.");
}

}  // namespace fwl
