// The mesh of ranks: axis `data` (ranks that read different sequences) times axis `sequence` (ranks that
// share sequences, each with one contiguous chunk of the positions). Rank = data rank * sequence size +
// sequence rank, so that the ranks of one sequence are neighbours: on one host when the launcher fills hosts
// in order.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace fwl {

// Validated sizes of the axes.
struct MeshShape {
  int data = 1;
  int sequence = 1;
  int ranks() const { return data * sequence; }
  std::string to_string() const;  // "2x4"
};

// `data` and `sequence` as configured: positive, or -1 (one of them) for what is left of `ranks`. Throws
// ConfigError that says what would fit.
MeshShape mesh_shape(int64_t data, int64_t sequence, int ranks);

// The warning when ranks of one sequence lie on several hosts, so that their exchanges cross the network at
// every layer; empty when none do. `first_ranks_of_hosts` by rank (session.h).
std::string split_hosts_warning(const MeshShape& shape, const std::vector<int>& first_ranks_of_hosts);

// Throws ConfigError, on all ranks, when two of them compute on one GPU. Collective over `group` (host
// tensors, all ranks of the world); nothing to do on the CPU.
void require_own_gpus(Communicator& group, at::Device device);

// This process's place in the mesh, and the communicators of the axes. Tensors of world(), data() and
// sequence() live on the mesh's device.
class Mesh {
 public:
  // Collective over the world, whose size is shape.ranks(). Throws CommError, ConfigError (require_own_gpus).
  Mesh(const MeshShape& shape, at::Device device, double timeout_s);
  // A mesh of this rank alone, whatever the world's size: for the serial side of a comparison.
  static Mesh solo(at::Device device);

  const MeshShape& shape() const { return shape_; }
  int data_rank() const { return data_rank_; }
  int sequence_rank() const { return sequence_rank_; }
  bool is_first_rank() const { return data_rank_ == 0 && sequence_rank_ == 0; }
  // Scalars and agreement, on the host.
  Communicator& host() { return *host_; }
  Communicator& world() { return world_ ? *world_ : *host_; }
  // Training needs no group of the data axis: it is made at the first call, which is collective over the
  // world.
  Communicator& data();
  Communicator& sequence() { return *sequence_; }

 private:
  Mesh() = default;
  std::unique_ptr<Communicator> make_axis(int size, int color, const char* name) const;

  MeshShape shape_;
  at::Device device_ = at::kCPU;
  double timeout_s_ = 0;
  int data_rank_ = 0, sequence_rank_ = 0;
  std::unique_ptr<Communicator> host_, world_, data_, sequence_;
};

}  // namespace fwl
