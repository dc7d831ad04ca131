#include "parallel/mesh.h"

#include "core/base/error.h"
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

void warn_of_split_hosts(const MeshShape& shape) {
  const Placement& place = world();
  if (place.rank == 0 && place.local_size < place.size && place.local_size % shape.sequence != 0)
    log_warn(cat("the ", shape.sequence, " ranks of a sequence do not lie on one host (", place.local_size,
                 " ranks here): their exchanges cross the network at every layer. Start a multiple of ",
                 shape.sequence, " ranks a host."));
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

Mesh::Mesh(const MeshShape& shape, at::Device device, double timeout_s)
    : shape_(shape),
      data_rank_(fwl::world().rank / shape.sequence),
      sequence_rank_(fwl::world().rank % shape.sequence),
      host_(make_world_communicator(timeout_s)) {
  require<InternalError>(shape.ranks() == fwl::world().size, "a mesh of ", shape.to_string(), " on ",
                         fwl::world().size, " ranks");
  warn_of_split_hosts(shape);
  if (device.is_cuda() && shape.ranks() > 1) world_ = make_world_nccl_communicator(device.index(), timeout_s);
  const auto axis = [&](int size, int color, const std::string& name) {
    if (size == 1) return make_local_communicator(device);
    return device.is_cuda() ? make_axis_nccl_communicator(color, name, device.index(), timeout_s)
                            : make_axis_communicator(color, name, timeout_s);
  };
  sequence_ = axis(shape.sequence, data_rank_, "sequence");
  data_ = axis(shape.data, sequence_rank_, "data");
}

Mesh Mesh::solo(at::Device device) {
  Mesh mesh;
  mesh.host_ = make_local_communicator();
  for (auto* axis : {&mesh.world_, &mesh.sequence_, &mesh.data_}) *axis = make_local_communicator(device);
  return mesh;
}

}  // namespace fwl
