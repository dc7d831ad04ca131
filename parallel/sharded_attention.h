// Exact causal attention of a sequence whose positions lie on several ranks. Every rank holds L
// consecutive positions; queries, keys and values are rotated by global positions before.
//
//   all_to_all  heads are scattered, tokens gathered; the unmodified attention; and back (Ulysses, Jacobs et
//               al. 2023). The heads must divide.
//   all_gather  keys and values of all ranks; the backward is a reduce-scatter.
//   halo        with a sliding window: the last W - 1 keys and values from the left neighbours only.
// Shape suffixes: b batch, h head, t global position, l position of this rank, e head dim.
#pragma once

#include <string>

#include "core/model/attention.h"
#include "parallel/communicator.h"

namespace fwl {

enum class AttentionAlgorithm { kAllToAll, kAllGather, kHalo };
// `name`: auto, all_to_all, all_gather or halo. auto: halo with a window, else all_to_all where the ranks
// divide the heads, else all_gather. Throws ConfigError for what cannot work, naming what would.
AttentionAlgorithm choose_attention_algorithm(const std::string& name, int ranks, int64_t heads,
                                              int64_t window);
const char* name_of(AttentionAlgorithm algorithm);
// Why `auto` takes it: "a sliding window: neighbours are enough".
const char* reason_of(AttentionAlgorithm algorithm);

// All [B, H, L, E]. Collective over the group; differentiable, the backward is collective too.
Tensor all_to_all_attention(Communicator& group, const Tensor& q_bhle, const Tensor& k_bhle,
                            const Tensor& v_bhle, int64_t window);
Tensor all_gather_attention(Communicator& group, const Tensor& q_bhle, const Tensor& k_bhle,
                            const Tensor& v_bhle, int64_t window);
// `memory`: keys and values of the positions before the sequence that this rank's window reaches, or null for
// sequences that begin here. When given, it is replaced by that of the next sequence of the same stream: the
// last positions of this one, which other ranks hold.
Tensor halo_attention(Communicator& group, const Tensor& q_bhle, const Tensor& k_bhle, const Tensor& v_bhle,
                      int64_t window, AttentionMemory* memory);

// Bytes that one rank sends in one layer's forward; the backward sends as many (halo: to the left instead of
// to the right, and no memory).
struct AttentionShape {
  int64_t batch, heads, length, head_dim;  // of one rank
  int64_t element_bytes;
};
enum class StreamMemory { kNone, kKept };
int64_t attention_bytes(AttentionAlgorithm algorithm, int rank, int ranks, const AttentionShape& shape,
                        int64_t window, StreamMemory memory);
// The halo's backward.
int64_t halo_backward_bytes(int rank, const AttentionShape& shape, int64_t window);

}  // namespace fwl
