#include "checkpoints/manifest.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <numeric>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/hex.h"
#include "core/base/json.h"

namespace fwl {
namespace {

using nlohmann::json;

constexpr int64_t kVersion = 2;
constexpr const char* kFormat = "fwl-checkpoint";
constexpr int64_t kMostElements = int64_t{1} << 46;  // of a tensor
constexpr size_t kMostDims = 16;
constexpr int64_t kMostCounted = int64_t{1} << 60;  // steps, tokens, bytes

int64_t count_of(const json& value) {
  return whole_number(value, 0, kMostCounted);
}
int64_t number_of(const json& value) {
  return whole_number(value, INT64_MIN, INT64_MAX);
}
std::vector<int64_t> numbers_of(const json& list) {
  std::vector<int64_t> numbers;
  for (const json& value : list) numbers.push_back(number_of(value));
  return numbers;
}

bool is_part_name(const std::string& name) {
  const std::string start = "rank-", end = ".h5";
  if (name.size() < start.size() + 5 + end.size() || name.rfind(start, 0) != 0 ||
      name.substr(name.size() - end.size()) != end)
    return false;
  return std::all_of(name.begin() + static_cast<ptrdiff_t>(start.size()),
                     name.end() - static_cast<ptrdiff_t>(end.size()),
                     [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::string part_name_of(const json& value, const std::string& where) {
  const std::string name = value;
  require<DataError>(is_part_name(name), where, ": '", name,
                     "' is no file of a checkpoint (those are called rank-00000.h5; it may lead elsewhere). "
                     "Use another checkpoint.");
  return name;
}

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

std::vector<int64_t> shape_from_json(const json& from, const std::string& where, const std::string& name) {
  std::vector<int64_t> shape;
  int64_t elements = 1;
  for (const json& dim : from) {
    shape.push_back(whole_number(dim, 0, kMostElements));
    const bool fits = !__builtin_mul_overflow(elements, shape.back(), &elements);
    require<DataError>(fits && elements <= kMostElements && shape.size() <= kMostDims, where, ": tensor '",
                       name, "' has an absurd shape (the manifest is damaged). Use another checkpoint.");
  }
  return shape;
}

std::map<std::string, TensorEntry> tensors_from_json(const json& from, const std::string& where) {
  std::map<std::string, TensorEntry> tensors;
  for (const auto& [name, entry] : from.items()) {
    TensorEntry& tensor = tensors[name];
    tensor.dtype = parse_dtype_name(entry.at("dtype"), where);
    tensor.shape = shape_from_json(entry.at("shape"), where, name);
    for (const json& s : entry.at("slices"))
      tensor.slices.push_back({part_name_of(s.at(0), where), s.at(1), whole_number(s.at(2), 0, kMostElements),
                               whole_number(s.at(3), 1, kMostSliceElements),
                               static_cast<uint32_t>(parse_hash(s.at(4), where))});
  }
  return tensors;
}

json file_to_json(const FileChecksum& file) {
  return {file.bytes, checksum_text(file.checksum)};
}
FileChecksum file_from_json(const json& from, const std::string& where) {
  return {count_of(from.at(0)), static_cast<uint32_t>(parse_hash(from.at(1), where))};
}

json anchor_to_json(const OrderAnchor& anchor) {
  return {{"sample", anchor.sample},
          {"rolling_hash", to_hex(anchor.rolling_hash)},
          {"stream_dealt", anchor.stream_dealt},
          {"stream_first_window", anchor.stream_first_window}};
}
OrderAnchor anchor_from_json(const json& from, const std::string& where) {
  return {count_of(from.at("sample")), parse_hash(from.at("rolling_hash"), where),
          numbers_of(from.at("stream_dealt")), numbers_of(from.at("stream_first_window"))};
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
                {"sequence_hash", to_hex(info.data.sequence_hash)},
                {"rolling_hash", to_hex(info.data.rolling_hash)},
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
  // Paths may hold bytes that JSON cannot: they stay beside the text for readers.
  if (json::parse(json_text(out["config"])) != out["config"])
    out["config_bytes"] = std::vector<uint8_t>(info.config_yaml.begin(), info.config_yaml.end());
  // The beginning of the order is not worth a key, and checkpoints from before there were anchors have none.
  if (info.data.anchor.sample > 0) out["data"]["anchor"] = anchor_to_json(info.data.anchor);
  return out;
}

void read_progress(const json& m, TrainingProgress* p) {
  p->step = count_of(m.at("step"));
  p->tokens = count_of(m.at("tokens"));
  p->samples = count_of(m.at("data").at("sample"));
  p->updates = count_of(m.at("updates"));
  p->skipped = count_of(m.at("skipped"));
  p->skipped_in_a_row = count_of(m.at("skipped_in_a_row"));
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
               number_of(m.at("random").at("sample_order").at("seed")),
               count_of(data.at("streams")),
               count_of(data.at("stream_position")),
               numbers_of(data.at("stream_tokens")),
               numbers_of(data.at("stream_documents")),
               data.contains("anchor") ? anchor_from_json(data.at("anchor"), where) : OrderAnchor()};
  const json& rate = m.at("learning_rate");
  const json& schedule = rate.at("schedule");
  info.learning_rate = {rate.at("next"), schedule.at("peak"), count_of(schedule.at("warmup_steps")),
                        count_of(schedule.at("steps")), schedule.at("floor")};
  const json& layout = m.at("layout");
  info.layout = {count_of(layout.at("ranks")), count_of(layout.at("data")), count_of(layout.at("sequence")),
                 layout.at("shard_optimizer"), layout.at("device")};
  info.program = m.at("program").get<std::map<std::string, std::string>>();
  info.config_yaml = m.at("config");
  if (m.contains("config_bytes")) {
    const auto bytes = m.at("config_bytes").get<std::vector<uint8_t>>();
    info.config_yaml.assign(bytes.begin(), bytes.end());
  }
  info.tokenizer_kind = m.at("tokenizer").at("kind");
  info.is_finite = m.value("finite", false);
  return info;
}

// How a sealed text begins: "checksum" is the first of its keys.
std::string seal_of(uint32_t checksum) {
  return "{\n \"checksum\": \"" + checksum_text(checksum) + "\",\n";
}

// The text of an object (printed with an indent of 1, keys sorted, a newline behind it), with the checksum of
// all of it but the checksum's line and that newline as the first key.
std::string sealed(const json& object) {
  const std::string text = json_text(object, 1);
  return seal_of(checksum_of(text)) + text.substr(2) + "\n";
}

bool is_sealed(const std::string& text) {
  const size_t begin = seal_of(0).size();
  if (text.size() <= begin || text.back() != '\n') return false;
  const uint32_t checksum =
      checksum_of(text.data() + begin, static_cast<int64_t>(text.size() - begin - 1), checksum_of("{\n"));
  return text.compare(0, begin, seal_of(checksum)) == 0;
}

// Runs `read` on the parsed text; everything that is missing or of another type becomes one kind of error.
template <typename Read>
auto read_sealed(const std::string& text, const std::string& where, Read read) {
  const json object = parse_json(text);
  require<DataError>(
      object.is_object() && object.value("format", json()) == kFormat, where,
      ": not the manifest of an fwl checkpoint (it is damaged or something else). Use another checkpoint.");
  const json version = object.value("version", json());
  require<DataError>(version == kVersion, where, ": format version ", version.dump(),
                     " is not read (this fwl reads ", kVersion, "). Use the fwl that wrote it.");
  require<DataError>(is_sealed(text), where,
                     ": its checksum does not fit (the manifest is damaged). Use another checkpoint.");
  try {
    return read(object);
  } catch (const json::exception& error) {
    throw DataError(cat(where, ": ", error.what(), " (the manifest is damaged). Use another checkpoint."));
  }
}

// A file holds at least the bytes of its slices: so many may be allocated to read them.
void check_room(const CheckpointManifest& manifest, const std::string& where) {
  std::map<std::string, int64_t> room;
  for (const auto& [name, file] : manifest.files) room[name] = file.bytes;
  for (const auto& [name, tensor] : manifest.tensors) {
    for (const SliceEntry& slice : tensor.slices) {
      const auto found = room.find(slice.file);
      const int64_t bytes = slice.count * static_cast<int64_t>(c10::elementSize(tensor.dtype));
      require<DataError>(found != room.end() && bytes <= found->second, where, ": tensor '", name,
                         "': its slice at element ", slice.first, " does not fit the file '", slice.file,
                         "' (the manifest is damaged). Use another checkpoint.");
      found->second -= bytes;
    }
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
  out["tokenizer"] = {{"kind", manifest.info.tokenizer_kind}, {"hash", to_hex(manifest.tokenizer_hash)}};
  out["tensors"] = tensors_to_json(manifest.tensors);
  out["files"] = json::object();
  for (const auto& [name, file] : manifest.files) out["files"][name] = file_to_json(file);
  return sealed(out);
}

CheckpointManifest parse_manifest(const std::string& text, const std::string& where) {
  return read_sealed(text, where, [&](const json& object) {
    CheckpointManifest manifest;
    manifest.info = info_from_json(object, where);
    manifest.tokenizer_hash = parse_hash(object.at("tokenizer").at("hash"), where);
    manifest.tensors = tensors_from_json(object.at("tensors"), where);
    for (const auto& [name, file] : object.at("files").items())
      manifest.files[name == kCheckpointTokenizer ? name : part_name_of(name, where)] =
          file_from_json(file, where);
    for (const auto& [name, tensor] : manifest.tensors) check_coverage(name, tensor, where);
    check_room(manifest, where);
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
    return PartIndex{part_name_of(object.at("file"), where),
                     file_from_json(object.at("checksum_of_file"), where),
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
