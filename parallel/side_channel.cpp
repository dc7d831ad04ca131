#include "parallel/side_channel.h"

#include <arpa/inet.h>
#include <mpi.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include <type_traits>

#include "core/base/error.h"
#include "core/base/host.h"
#include "core/base/log.h"
#include "parallel/interfaces.h"
#include "parallel/mpi_check.h"

namespace fwl {
namespace {

using Datagram = SideChannel::Datagram;
static_assert(std::is_trivially_copyable_v<PeerInfo> && std::is_trivially_copyable_v<Datagram>);
static_assert(sizeof(Datagram) == 40 + sizeof(Datagram::text), "no padding: every byte is sent and coded");

// Answers of a thousand ranks come at once; the usual buffer holds 256.
constexpr int kReceiveBuffer_bytes = 4 << 20;

NetAddress mapped(const in_addr& address) {
  NetAddress result{};
  result[10] = result[11] = 0xff;
  std::memcpy(&result[12], &address.s_addr, 4);
  return result;
}

bool is_ipv4(const NetAddress& address) {
  in6_addr as_ipv6{};
  std::memcpy(&as_ipv6, address.data(), address.size());
  return IN6_IS_ADDR_V4MAPPED(&as_ipv6);
}

void add_addresses(PeerInfo* info) {
  for (const sockaddr_storage& from : outside_addresses()) {
    if (info->num_addresses == PeerInfo::kAddresses) return;
    NetAddress& address = info->addresses[info->num_addresses++];
    if (from.ss_family == AF_INET) {
      address = mapped(reinterpret_cast<const sockaddr_in&>(from).sin_addr);
    } else {
      std::memcpy(address.data(), &reinterpret_cast<const sockaddr_in6&>(from).sin6_addr, address.size());
    }
  }
}

// A socket of this family on a port that the system picks; -1 when there is none.
int open_socket(int family, uint16_t* port) {
  const int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int off = 0;
  if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  sockaddr_storage any{};
  any.ss_family = static_cast<sa_family_t>(family);
  auto* address = reinterpret_cast<sockaddr*>(&any);
  socklen_t length = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (bind(fd, address, length) != 0 || getsockname(fd, address, &length) != 0) {
    const int problem = errno;
    close(fd);
    errno = problem;
    return -1;
  }
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer_bytes, sizeof kReceiveBuffer_bytes) != 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer_bytes, sizeof kReceiveBuffer_bytes);
  // The port stands at the same place in both kinds of address.
  *port = ntohs(reinterpret_cast<const sockaddr_in*>(&any)->sin_port);
  return fd;
}

void send_to(int fd, int family, const NetAddress& to, uint16_t port, const Datagram& datagram) {
  sockaddr_in6 ipv6{};
  ipv6.sin6_family = AF_INET6;
  ipv6.sin6_port = htons(port);
  std::memcpy(&ipv6.sin6_addr, to.data(), to.size());
  sockaddr_in ipv4{};
  ipv4.sin_family = AF_INET;
  ipv4.sin_port = htons(port);
  std::memcpy(&ipv4.sin_addr, &to[12], 4);
  if (family == AF_INET && !is_ipv4(to)) return;
  const auto* address =
      family == AF_INET ? reinterpret_cast<const sockaddr*>(&ipv4) : reinterpret_cast<const sockaddr*>(&ipv6);
  const socklen_t length = family == AF_INET ? sizeof ipv4 : sizeof ipv6;
  // What is lost is asked for again.
  (void)sendto(fd, &datagram, sizeof datagram, MSG_DONTWAIT, address, length);
}

uint64_t code_of(const SipKey& key, const Datagram& datagram) {
  const auto* bytes = reinterpret_cast<const char*>(&datagram);
  return siphash(key, bytes + sizeof datagram.code, sizeof datagram - sizeof datagram.code);
}

}  // namespace

SideChannel::SideChannel(int rank, int size) : rank_(rank), peers_(static_cast<size_t>(size)) {
  PeerInfo own{};
  for (const int family : {AF_INET6, AF_INET}) {
    if (socket_ >= 0) break;
    socket_ = open_socket(family, &own.port);
    family_ = family;
  }
  if (socket_ < 0)
    log_warn(cat("rank ", rank, ": no UDP socket for the watchdog: ", std::strerror(errno),
                 " (errors cannot say which rank is late; training goes on). Allow local sockets."));
  host_name().copy(own.host.data(), own.host.size() - 1);
  own.place = own_process_place();
  add_addresses(&own);
  FWL_MPI(MPI_Allgather(&own, sizeof own, MPI_BYTE, peers_.data(), sizeof own, MPI_BYTE, MPI_COMM_WORLD));
  std::random_device random;
  for (uint64_t& word : key_) word = (static_cast<uint64_t>(random()) << 32) | random();
  FWL_MPI(MPI_Bcast(key_.data(), sizeof key_, MPI_BYTE, 0, MPI_COMM_WORLD));
}

SideChannel::~SideChannel() {
  if (socket_ >= 0) close(socket_);
}

void SideChannel::send(int to, Datagram datagram) const {
  const PeerInfo& peer = peers_[static_cast<size_t>(to)];
  if (socket_ < 0 || peer.port == 0) return;
  datagram.from = rank_;
  datagram.code = code_of(key_, datagram);
  const bool local = same_loopback(peer.place, peers_[static_cast<size_t>(rank_)].place);
  if (local || peer.num_addresses == 0)
    send_to(socket_, family_, mapped({htonl(INADDR_LOOPBACK)}), peer.port, datagram);
  if (local) return;
  for (int i = 0; i < peer.num_addresses; ++i)
    send_to(socket_, family_, peer.addresses[static_cast<size_t>(i)], peer.port, datagram);
}

bool SideChannel::receive(Datagram* datagram, int timeout_ms) const {
  if (socket_ < 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(timeout_ms));
    return false;
  }
  pollfd waiting{socket_, POLLIN, 0};
  if (poll(&waiting, 1, timeout_ms) <= 0) return false;
  const ssize_t got = recv(socket_, datagram, sizeof *datagram, MSG_DONTWAIT);
  if (got != static_cast<ssize_t>(sizeof *datagram) || datagram->code != code_of(key_, *datagram))
    return false;
  datagram->text.back() = '\0';
  const auto is_rank = [&](int64_t r) { return r >= 0 && r < static_cast<int64_t>(peers_.size()); };
  return is_rank(datagram->from) && is_rank(datagram->origin);
}

std::string SideChannel::name_of(int rank) const {
  const PeerInfo& peer = peers_[static_cast<size_t>(rank)];
  return cat("rank ", rank, " (host ", peer.host.data(), ", process ", peer.place.pid, ")");
}

ProcessState SideChannel::process_state(int rank) const {
  return fwl::process_state(peers_[static_cast<size_t>(rank)].place,
                            peers_[static_cast<size_t>(rank_)].place);
}

}  // namespace fwl
