#include "parallel/mesh.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "parallel/session.h"

namespace fwl {
namespace {

// All layouts of `ranks`, for a message: "1x4, 2x2, 4x1".
std::string layouts_of(int ranks) {
  std::string text;
  for (int data = 1; data <= ranks; ++data)
    if (ranks % data == 0) text += cat(text.empty() ? "" : ", ", MeshShape{data, ranks / data}.to_string());
  return text;
}

}  // namespace

std::string MeshShape::to_string() const {
  return cat(data, "x", sequence);
}

MeshShape mesh_shape(int64_t data, int64_t sequence, int ranks) {
  require<ConfigError>(data != 0 && sequence != 0 && data >= -1 && sequence >= -1, "parallel.data = ", data,
                       ", parallel.sequence = ", sequence,
                       " (an axis has at least one rank). Give positive sizes, or -1 for one of them.");
  require<ConfigError>(
      data != -1 || sequence != -1,
      "parallel.data and parallel.sequence are both -1 (only one can take what is left). Set "
      "one of them. Layouts (data x sequence) of ",
      ranks, " ranks: ", layouts_of(ranks), ".");
  const int64_t known = data == -1 ? sequence : data;
  const bool fill = data == -1 || sequence == -1;
  require<ConfigError>(fill ? ranks % known == 0 : data * sequence == ranks,
                       "parallel.data x parallel.sequence = ", data, " x ", sequence, " does not fit ", ranks,
                       " ranks (every rank needs one place). Layouts of ", ranks,
                       " ranks: ", layouts_of(ranks),
                       fill ? std::string(".") : cat("; or start ", data * sequence, " ranks."));
  const auto rest = static_cast<int>(ranks / known);
  if (data == -1) return {rest, static_cast<int>(sequence)};
  return {static_cast<int>(data), sequence == -1 ? rest : static_cast<int>(sequence)};
}

std::string split_hosts_warning(const MeshShape& shape, const std::vector<int>& first_ranks_of_hosts) {
  int split = 0, example = -1;
  for (int sequence = 0; sequence < shape.data; ++sequence) {
    const auto first = first_ranks_of_hosts.begin() + static_cast<int64_t>(sequence) * shape.sequence;
    if (std::all_of(first, first + shape.sequence, [&](int host) { return host == *first; })) continue;
    if (split++ == 0) example = sequence * shape.sequence;
  }
  if (split == 0) return {};
  return cat("the ranks of ", split, " of ", shape.data, " sequences lie on several hosts (ranks ", example,
             " to ", example + shape.sequence - 1,
             "): their exchanges cross the network at every layer. Start a multiple of ", shape.sequence,
             " ranks a host, in blocks (srun --distribution=block, mpirun --map-by slot).");
}

void require_own_gpus(Communicator& group, at::Device device) {
  if (!device.is_cuda() || group.size() == 1) return;
  const std::string bus = gpu_name(device.index()).bus;
  const std::vector<int>& hosts = first_ranks_of_hosts();
  const Tensor own = at::tensor({static_cast<int64_t>(hash_bytes(bus))}, at::kLong);
  const Tensor all = at::empty({group.size()}, at::kLong);
  group.all_gather(all, own);
  std::map<std::pair<int, int64_t>, int> owners;
  for (int rank = 0; rank < group.size(); ++rank) {
    const int host = hosts.at(static_cast<size_t>(rank));
    const auto [owner, is_new] = owners.emplace(std::pair(host, all.const_data_ptr<int64_t>()[rank]), rank);
    require<ConfigError>(
        is_new, "ranks ", owner->second, " and ", rank, " of one host share a GPU (this rank's is ", bus,
        "; each rank needs its own). Start at most as many ranks per host as it has GPUs, and "
        "let each see all of them or one of its own.");
  }
}

Mesh::Mesh(const MeshShape& shape, at::Device device, double timeout_s)
    : shape_(shape),
      device_(device),
      timeout_s_(timeout_s),
      data_rank_(fwl::world().rank / shape.sequence),
      sequence_rank_(fwl::world().rank % shape.sequence),
      host_(make_world_communicator(timeout_s)) {
  require<InternalError>(shape.ranks() == fwl::world().size, "a mesh of ", shape.to_string(), " on ",
                         fwl::world().size, " ranks");
  require_own_gpus(*host_, device);
  const std::string warning = split_hosts_warning(shape, first_ranks_of_hosts());
  if (fwl::world().rank == 0 && !warning.empty()) log_warn(warning);
  if (device.is_cuda() && shape.ranks() > 1) world_ = make_world_nccl_communicator(device.index(), timeout_s);
  sequence_ = make_axis(shape.sequence, data_rank_, "sequence");
}

std::unique_ptr<Communicator> Mesh::make_axis(int size, int color, const char* name) const {
  if (size == 1) return make_local_communicator(device_);
  return device_.is_cuda() ? make_axis_nccl_communicator(color, name, device_.index(), timeout_s_)
                           : make_axis_communicator(color, name, timeout_s_);
}

Communicator& Mesh::data() {
  if (!data_) data_ = make_axis(shape_.data, sequence_rank_, "data");
  return *data_;
}

Mesh Mesh::solo(at::Device device) {
  Mesh mesh;
  mesh.device_ = device;
  mesh.host_ = make_local_communicator();
  for (auto* axis : {&mesh.world_, &mesh.sequence_, &mesh.data_}) *axis = make_local_communicator(device);
  return mesh;
}

}  // namespace fwl
