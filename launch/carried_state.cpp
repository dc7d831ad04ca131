#include "launch/carried_state.h"

#include "checkpoints/finite.h"
#include "core/base/device.h"
#include "core/base/error.h"

namespace fwl {
namespace {

const std::string kCarried = "carried/";

// Calls visit(name, tensor) for every tensor of a state; `state` may be const.
template <typename State, typename Visit>
void for_each_tensor(State& state, Visit visit) {
  visit("fast.dense1", state.fast.dense1_bfd);
  visit("fast.dense2", state.fast.dense2_bdf);
  visit("fast.norm", state.fast.norm_bd);
  for (size_t i = 0; i < state.layers.size(); ++i) {
    visit(cat("attention.", i, ".key"), state.layers[i].key_bhte);
    visit(cat("attention.", i, ".value"), state.layers[i].value_bhte);
  }
}

at::ScalarType stored_type(const Tensor& t) {
  return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// The layer's number in "attention.3.key".
size_t layer_of(const std::string& name) {
  const std::string prefix = "attention.";
  size_t end = 0;
  size_t layer = 0;
  try {
    if (name.rfind(prefix, 0) == 0) layer = std::stoul(name.substr(prefix.size()), &end);
  } catch (const std::exception&) {
    end = 0;
  }
  require<DataError>(end > 0 && layer < 100000, "the checkpoint's streams hold '", name,
                     "', which this program does not know (it is from another version, or damaged). Use the "
                     "fwl that wrote it.");
  return layer;
}

}  // namespace

NamedTensors to_named(const StreamState& state) {
  NamedTensors named;
  for_each_tensor(state, [&](const std::string& name, const Tensor& t) {
    if (t.defined()) named.emplace_back(name, t.to(at::kCPU, stored_type(t)));
  });
  return named;
}

StreamState from_named(const NamedTensors& tensors, int64_t position, at::Device device,
                       at::ScalarType compute) {
  StreamState state;
  state.position = position;
  for (const auto& [name, value] : tensors) {
    const bool fast = name.rfind("fast.", 0) == 0;
    if (!fast && state.layers.size() <= layer_of(name)) state.layers.resize(layer_of(name) + 1);
    bool known = false;
    for_each_tensor(state, [&, n = name, v = value](const std::string& slot, Tensor& t) {
      if (slot != n) return;
      t = fast ? v.to(device) : v.to(device, compute);
      known = true;
    });
    require<DataError>(known, "the checkpoint's streams hold '", name,
                       "', which this program does not know (it is from another version, or damaged). Use "
                       "the fwl that wrote it.");
  }
  return state;
}

NamedTensors gather_streams(Mesh& mesh, const StepGradient& step) {
  StreamState own = step.stream_state();
  if (mesh.shape().data == 1) return mesh.is_first_rank() ? to_named(own) : NamedTensors{};
  // The first ranks of all sequences send; the first of the world receives. Every rank takes part.
  std::vector<Message> sends, receives;
  std::vector<std::vector<Tensor>> rows;
  for_each_tensor(own, [&](const std::string&, const Tensor& t) {
    rows.emplace_back();
    if (!t.defined() || mesh.sequence_rank() != 0) return;
    const Tensor whole = t.contiguous();
    rows.back().push_back(whole);
    if (!mesh.is_first_rank()) return sends.push_back({0, whole});
    for (int d = 1; d < mesh.shape().data; ++d) {
      rows.back().push_back(at::empty_like(whole));
      receives.push_back({d * mesh.shape().sequence, rows.back().back()});
    }
  });
  mesh.world().exchange(sends, receives, purpose::kCheckpoint);
  if (!mesh.is_first_rank()) return {};
  StreamState all = own;
  size_t i = 0;
  for_each_tensor(all, [&](const std::string&, Tensor& t) {
    if (t.defined()) t = at::cat(rows[i], 0);
    ++i;
  });
  return to_named(all);
}

void add_stream_blocks(const StreamState& state, int64_t first_stream, int64_t streams,
                       std::vector<SliceBlock>* blocks) {
  for (const auto& [name, rows] : to_named(state))
    blocks->push_back(row_block(kCarried + name, rows, first_stream, streams));
}

StreamState read_streams(CheckpointReader& reader, int64_t first, int64_t count, at::Device device,
                         at::ScalarType compute) {
  NamedTensors named;
  for (const auto& [name, entry] : reader.manifest().tensors) {
    if (name.rfind(kCarried, 0) != 0) continue;
    const int64_t streams = entry.shape.empty() ? 0 : entry.shape[0];
    require<DataError>(first + count <= streams, reader.path(), ": '", name, "' has ", streams,
                       " streams, wanted are ", first, " to ", first + count,
                       ". Resume with the config that it was written with.");
    std::vector<int64_t> shape = entry.shape;
    shape[0] = count;
    Tensor rows = at::empty(shape, at::TensorOptions().dtype(entry.dtype));
    reader.read(name, first * (entry.elements() / streams), rows.view({-1}));
    require<DataError>(
        is_sound(name, rows), reader.path(), ": '", name,
        "' is not finite (the run had diverged when it was saved). Use an earlier checkpoint.");
    named.emplace_back(name.substr(kCarried.size()), rows);
  }
  return from_named(named, reader.info().data.stream_position, device, compute);
}

}  // namespace fwl
