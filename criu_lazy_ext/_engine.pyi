"""What cffi makes of c_src/criu_lazy.h, for mypy: tests/unit/test_border.py compares the two.

A struct's name stands for a pointer to it. Only criu_lazy_ext/native/ imports this.
"""

from array import array
from collections.abc import Sequence
from typing import Literal, overload

class Null:
    """The NULL pointer. Whatever else is here is true."""

    def __bool__(self) -> Literal[False]: ...

class char_p:
    def __bool__(self) -> Literal[True]: ...
    def __len__(self) -> int: ...

class char_pp: ...

class int32_array: ...
class uint64_array: ...

class cl_engine:
    def __bool__(self) -> Literal[True]: ...

class cl_dump_proxy:
    def __bool__(self) -> Literal[True]: ...

class cl_precopy:
    def __bool__(self) -> Literal[True]: ...

class cl_listener:
    def __bool__(self) -> Literal[True]: ...

class cl_precopy_receiver:
    def __bool__(self) -> Literal[True]: ...

class cl_error:
    code: int
    text: char_p

class cl_vma:
    start: int
    end: int
    wiped_on_fork: int

class cl_config:
    images_fd: int
    log_fd: int
    log_level: int
    log_start_us: int
    wire_version: int
    auto_dedup: int
    nr_workers: int
    max_in_flight_bytes: int
    push_streams: int
    precopied_fd: int
    reconnect_us: int

class cl_tls_config:
    ca_cert: char_p
    ca_crl: char_p
    cert: char_p
    key: char_p
    host: char_p
    no_cn_verify: int
    key_hex: char_p
    server: int

class cl_stats:
    total_pages: int
    remaining_pages: int
    copied_pages: int
    zero_pages: int
    same_pages: int
    dropped_pages: int
    lost_pages: int
    demand_faults: int
    zero_faults: int
    merged_faults: int
    received_bytes: int
    requests: int
    in_flight_bytes: int
    window_bytes: int
    delivery_rate: int
    min_rtt_us: int
    address_spaces: int
    events_fork: int
    events_remap: int
    events_unmap: int
    events_remove: int
    again: int
    push_streams: int
    reconnects: int
    paused_us: int
    no_memory_us: int
    waiting_faults: int
    oldest_wait_us: int
    fault_wait_sum_us: int
    fault_wait_max_us: int
    fault_wait_us: Sequence[int]
    missing_map: Sequence[int]
    demand_map: Sequence[int]
    same_map: Sequence[int]

class cl_ended:
    pid: int
    how: char_p
    missing_pages: int

class cl_dump_proxy_config:
    upstream_fd: int
    takeover_fd: int
    resume: char_pp | Null
    log_fd: int
    log_level: int
    wire_version: int
    hold_close: int
    max_request_pages: int

class cl_dump_proxy_info:
    state: int
    running: int
    alone: int
    held: int
    wire_version: int
    requests: int
    bytes: int
    discarded_bytes: int
    clients: int
    silent_ms: int
    client: char_p

class cl_precopy_config:
    log_fd: int
    log_level: int
    nr_threads: int
    rate: int

class cl_precopy_round:
    number: int
    scanned_pages: int
    unread_pages: int
    sent_pages: int
    zero_pages: int
    packed_pages: int
    sent_bytes: int
    elapsed_us: int
    was_cut: bool

class cl_listener_config:
    listen_fd: int
    log_fd: int
    log_level: int
    images_fd: int
    ids: int32_array
    pids: int32_array
    nr_tasks: int
    gone: int
    tls: cl_tls_config | Null
    rate: int
    precopy: cl_precopy | Null

class cl_listener_info:
    sessions: int
    streams: int
    asked_pages: int
    left_pages: int
    pushed_pages: int
    zero_pages: int
    packed_pages: int
    same_pages: int
    also_pages: int
    sent_bytes: int
    lost_tasks: int
    lost_pages: int
    lost_task: int
    lost_signal: int
    rate: int

class cl_precopy_receiver_config:
    remote_fd: int
    directory_fd: int
    log_fd: int
    log_level: int
    tls: cl_tls_config | Null

class CType:
    fields: Sequence[tuple[str, object]]  # a struct's
    elements: dict[int, str]  # an enum's

class FFI:
    NULL: Null
    def string(self, chars: char_p) -> bytes: ...
    def typeof(self, name: str) -> CType: ...
    def from_buffer(self, name: Literal["struct cl_vma[]"], buffer: array[int]) -> cl_vma: ...
    @overload
    def new(self, name: Literal["char[]"], init: int | bytes) -> char_p: ...
    @overload
    def new(self, name: Literal["char *[]"], init: Sequence[char_p | Null]) -> char_pp: ...
    @overload
    def new(self, name: Literal["int32_t[]"], init: Sequence[int]) -> int32_array: ...
    @overload
    def new(self, name: Literal["uint64_t[]"], init: Sequence[int]) -> uint64_array: ...
    @overload
    def new(self, name: Literal["struct cl_error *"]) -> cl_error: ...
    @overload
    def new(self, name: Literal["struct cl_config *"]) -> cl_config: ...
    @overload
    def new(self, name: Literal["struct cl_tls_config *"]) -> cl_tls_config: ...
    @overload
    def new(self, name: Literal["struct cl_stats *"]) -> cl_stats: ...
    @overload
    def new(self, name: Literal["struct cl_ended *"]) -> cl_ended: ...
    @overload
    def new(self, name: Literal["struct cl_dump_proxy_config *"]) -> cl_dump_proxy_config: ...
    @overload
    def new(self, name: Literal["struct cl_dump_proxy_info *"]) -> cl_dump_proxy_info: ...
    @overload
    def new(self, name: Literal["struct cl_precopy_config *"]) -> cl_precopy_config: ...
    @overload
    def new(self, name: Literal["struct cl_precopy_round *"]) -> cl_precopy_round: ...
    @overload
    def new(self, name: Literal["struct cl_listener_config *"]) -> cl_listener_config: ...
    @overload
    def new(self, name: Literal["struct cl_listener_info *"]) -> cl_listener_info: ...
    @overload
    def new(self, name: Literal["struct cl_precopy_receiver_config *"]) -> cl_precopy_receiver_config: ...

class Lib:
    CL_LATENCY_BUCKETS: int
    CL_MAP_SLICES: int
    CL_WITHOUT_LIMIT: int
    CL_IF_IT_PUSHES: int
    CL_PUSH_MAX_STREAMS: int
    CL_GUARDIAN_SOCKET: char_p
    CL_ROLL_BACK_BYTE: int
    CL_ROLL_BACK_BYTES: int
    CL_ERROR_TEXT_BYTES: int
    CL_DUMP_PROXY_TEXT_BYTES: int
    CL_LISTENER_CONNECTIONS: int
    CL_LISTENER_STRANGERS: int
    CL_DUMP_PROXY_WAITING: int
    CL_DUMP_PROXY_SERVING: int
    CL_DUMP_PROXY_PAUSED: int
    CL_DUMP_PROXY_DRAINED: int
    CL_DUMP_PROXY_COMMITTED: int
    CL_DUMP_PROXY_ABORTED: int
    CL_DUMP_PROXY_FAILED: int
    CL_PRECOPY_NONE: int
    CL_PRECOPY_CONNECTED: int
    CL_PRECOPY_LOST: int
    CL_PRECOPY_COMPLETE: int
    def cl_engine_new(self, config: cl_config, error: cl_error) -> cl_engine | Null: ...
    def cl_engine_free(self, engine: cl_engine) -> None: ...
    def cl_engine_add_task(self, engine: cl_engine, pid: int, vmas: cl_vma, nr_vmas: int, error: cl_error) -> int: ...
    def cl_engine_wire_version(self, engine: cl_engine) -> int: ...
    def cl_engine_set_tls(self, engine: cl_engine, tls: cl_tls_config, error: cl_error) -> int: ...
    def cl_engine_set_remote(self, engine: cl_engine, remote_fd: int, error: cl_error) -> int: ...
    def cl_engine_check_remote(self, engine: cl_engine, error: cl_error) -> int: ...
    def cl_engine_greet(self, engine: cl_engine, error: cl_error) -> int: ...
    def cl_engine_take_over(self, engine: cl_engine, guardian_fd: int, error: cl_error) -> int: ...
    def cl_engine_run(self, engine: cl_engine, restore_fd: int, error: cl_error) -> int: ...
    def cl_engine_stop(self, engine: cl_engine) -> None: ...
    def cl_engine_stats(self, engine: cl_engine, out: cl_stats) -> None: ...
    def cl_engine_ended(self, engine: cl_engine, index: int, out: cl_ended) -> int: ...
    def cl_dump_proxy_new(self, config: cl_dump_proxy_config, error: cl_error) -> cl_dump_proxy | Null: ...
    def cl_dump_proxy_resume(
        self, config: cl_dump_proxy_config, lifeline_fd: int, error: cl_error
    ) -> cl_dump_proxy | Null: ...
    def cl_dump_proxy_set_tasks(self, proxy: cl_dump_proxy, tasks: uint64_array, nr_tasks: int) -> int: ...
    def cl_dump_proxy_free(self, proxy: cl_dump_proxy) -> None: ...
    def cl_dump_proxy_run(self, proxy: cl_dump_proxy, error: cl_error) -> int: ...
    def cl_dump_proxy_run_alone(self, proxy: cl_dump_proxy, held: int, error: cl_error) -> int: ...
    def cl_dump_proxy_end_alone(self, proxy: cl_dump_proxy, state: int, error: cl_error) -> int: ...
    def cl_dump_proxy_source_lost(self, proxy: cl_dump_proxy, why: char_p) -> None: ...
    def cl_dump_proxy_set_running(self, proxy: cl_dump_proxy, running: int) -> None: ...
    def cl_dump_proxy_commit(self, proxy: cl_dump_proxy, force: int) -> int: ...
    def cl_dump_proxy_abort(self, proxy: cl_dump_proxy, force: int) -> int: ...
    def cl_dump_proxy_drop_client(self, proxy: cl_dump_proxy) -> None: ...
    def cl_dump_proxy_info(self, proxy: cl_dump_proxy, out: cl_dump_proxy_info) -> None: ...
    def cl_precopy_new(self, config: cl_precopy_config, error: cl_error) -> cl_precopy | Null: ...
    def cl_precopy_free(self, precopy: cl_precopy) -> None: ...
    def cl_precopy_under_way(self, precopy: cl_precopy, out: cl_precopy_round) -> None: ...
    def cl_precopy_round(
        self,
        precopy: cl_precopy,
        ids: int32_array,
        pids: int32_array,
        nr_tasks: int,
        out: cl_precopy_round,
        error: cl_error,
    ) -> int: ...
    def cl_precopy_cut(self, precopy: cl_precopy) -> None: ...
    def cl_precopy_finish(self, precopy: cl_precopy, error: cl_error) -> int: ...
    def cl_precopy_stop(self, precopy: cl_precopy) -> None: ...
    def cl_precopy_set_rate(self, precopy: cl_precopy, bytes_per_s: int) -> None: ...
    def cl_precopy_state(self, precopy: cl_precopy) -> int: ...
    def cl_listener_new(
        self, proxy: cl_dump_proxy | Null, config: cl_listener_config, error: cl_error
    ) -> cl_listener | Null: ...
    def cl_listener_free(self, listener: cl_listener) -> None: ...
    def cl_listener_stand_alone(self, listener: cl_listener) -> int: ...
    def cl_listener_set_rate(self, listener: cl_listener, bytes_per_s: int) -> None: ...
    def cl_listener_drop_client(self, listener: cl_listener) -> None: ...
    def cl_listener_info(self, listener: cl_listener, out: cl_listener_info) -> None: ...
    def cl_precopy_receiver_new(
        self, config: cl_precopy_receiver_config, error: cl_error
    ) -> cl_precopy_receiver | Null: ...
    def cl_precopy_receiver_run(self, receiver: cl_precopy_receiver, error: cl_error) -> int: ...
    def cl_precopy_receiver_stop(self, receiver: cl_precopy_receiver) -> None: ...
    def cl_precopy_receiver_free(self, receiver: cl_precopy_receiver) -> None: ...
    def cl_collapse(self, pidfd: int, start: int, size: int) -> int: ...

ffi: FFI
lib: Lib
