#include "launch/generation/state_file.h"

#include <algorithm>

#include "checkpoints/checksum.h"
#include "core/base/config.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/hdf5.h"
#include "core/base/hex.h"
#include "core/base/new_file.h"
#include "launch/carried_state.h"

namespace fwl {
namespace {

constexpr const char* kFormat = "fwl state";
constexpr int64_t kVersion = 1;

std::string_view bytes_of(const Tensor& t) {
  return {static_cast<const char*>(t.const_data_ptr()), t.nbytes()};
}

// Of everything in the file that counts.
uint32_t checksum_of_state(const NamedTensors& tensors, int64_t position, int64_t last_token, bool fast,
                           uint64_t identity) {
  uint32_t sum = checksum_of(cat(position, ' ', last_token, ' ', fast, ' ', identity));
  for (const auto& [name, t] : tensors) {
    const std::string head = cat(name, ' ', t.sizes(), ' ', t.scalar_type());
    sum = checksum_of(head.data(), static_cast<int64_t>(head.size()), sum);
    sum = checksum_of(t.const_data_ptr(), static_cast<int64_t>(t.nbytes()), sum);
  }
  return sum;
}

template <typename T>
void write_tensor(Hdf5File& file, const std::string& name, const Tensor& t) {
  file.write<T>(name, t.sizes().vec(), t.const_data_ptr<T>());
}

template <typename T>
Tensor read_tensor(const Hdf5File& file, const std::string& name, at::ScalarType type) {
  const std::vector<T> values = file.read<T>(name);
  Tensor t = at::empty(file.shape(name), type);
  require<DataError>(t.numel() == static_cast<int64_t>(values.size()), file.path(), ": '", name,
                     "' has another size than its shape (it is damaged). Make the state again.");
  std::copy(values.begin(), values.end(), t.mutable_data_ptr<T>());
  return t;
}

// HDF5 sorts names by bytes, "attention.10.key" before "attention.2.key": both sides take that order.
NamedTensors sorted(NamedTensors tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return tensors;
}

void write_file(const std::string& path, const ReadingState& reading, uint64_t identity) {
  NamedTensors tensors;
  for (const auto& [name, t] : sorted(to_named(reading.state)))
    if (t.numel() > 0) tensors.emplace_back(name, t.contiguous());  // no keys: nothing was read yet
  Hdf5File file = Hdf5File::create(path);
  file.set_attribute("format", std::string(kFormat));
  file.set_attribute("version", kVersion);
  file.set_attribute("position", reading.state.position);
  file.set_attribute("last_token", reading.last_token);
  file.set_attribute("fast_weights", int64_t{reading.has_fast_weights});
  file.set_attribute("model", to_hex(identity));
  file.set_attribute("checksum",
                     checksum_text(checksum_of_state(tensors, reading.state.position, reading.last_token,
                                                     reading.has_fast_weights, identity)));
  for (const auto& [name, t] : tensors)
    t.scalar_type() == at::kDouble ? write_tensor<double>(file, name, t) : write_tensor<float>(file, name, t);
  file.close();
}

Hdf5File open_state(const std::string& path) {
  Hdf5File file = Hdf5File::open(path, "state file");
  require<DataError>(file.has_attribute("format") && file.string_attribute("format") == kFormat, path,
                     ": no state of `fwl generate --state-out`. Give a file that it has written.");
  require<DataError>(file.integer_attribute("version") == kVersion, path, ": has version ",
                     file.integer_attribute("version"), ", this program reads ", kVersion,
                     ". Read the document again.");
  return file;
}

// The first tensor that holds a NaN or an infinity; empty for none.
std::string nonfinite_name(const NamedTensors& tensors) {
  for (const auto& [name, t] : tensors)
    if (!t.isfinite().all().item<bool>()) return name;
  return "";
}

}  // namespace

std::string nonfinite_part(const ReadingState& reading) {
  return nonfinite_name(to_named(reading.state));
}

uint64_t identity_of(const LanguageModel& model, const Tokenizer& tokenizer) {
  ModelConfig config = model.config();
  uint64_t hash = hash_bytes(to_yaml(fields_of(config)), tokenizer.hash());
  for (const Parameter& p : model.parameters().all()) {
    hash = hash_bytes(p.name, hash);
    hash = hash_bytes(bytes_of(p.value.detach().to(at::kCPU).contiguous()), hash);
  }
  return hash;
}

void write_state(const std::string& path, const ReadingState& reading, uint64_t identity) {
  const std::string broken = nonfinite_part(reading);
  require<CheckFailed>(broken.empty(), path, ": the state after reading is not finite (", broken,
                       "; what follows it would be no text, and nothing was written). Try --adapt off, or "
                       "another checkpoint.");
  NewFile file(path);
  write_file(file.temporary(), reading, identity);
  file.publish();
}

StateHead head_of_state(const std::string& path) {
  const Hdf5File file = open_state(path);
  return {file.integer_attribute("position"), file.integer_attribute("fast_weights") != 0};
}

ReadingState read_state(const std::string& path, uint64_t identity, at::Device device,
                        at::ScalarType compute) {
  const Hdf5File file = open_state(path);
  const uint64_t model = parse_hash(file.string_attribute("model"), path);
  require<ConfigError>(model == identity, path,
                       ": was made with another model (weights, config or tokenizer: ", to_hex(model),
                       ", here ", to_hex(identity),
                       "; its numbers mean nothing here). Read the document again with this model.");
  NamedTensors tensors;
  for (const std::string& dataset : file.datasets()) {
    const bool wide = file.element_type(dataset) == "float64";
    const std::string name = dataset.substr(dataset.rfind('/') + 1);
    tensors.emplace_back(name, wide ? read_tensor<double>(file, dataset, at::kDouble)
                                    : read_tensor<float>(file, dataset, at::kFloat));
  }
  ReadingState reading;
  reading.last_token = file.integer_attribute("last_token");
  reading.has_fast_weights = file.integer_attribute("fast_weights") != 0;
  const int64_t position = file.integer_attribute("position");
  tensors = sorted(std::move(tensors));
  const uint32_t sum =
      checksum_of_state(tensors, position, reading.last_token, reading.has_fast_weights, identity);
  require<DataError>(checksum_text(sum) == file.string_attribute("checksum"), path,
                     ": its checksum does not match (the file is damaged). Read the document again.");
  const std::string broken = nonfinite_name(tensors);
  require<DataError>(broken.empty(), path, ": its numbers are not finite (", broken,
                     "; what follows it would be no text). Read the document again.");
  reading.state = from_named(tensors, position, device, compute);
  return reading;
}

}  // namespace fwl
