"""Loops that run as machine code, alone or side by side."""

from collections.abc import Callable
from typing import Any, no_type_check

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_INT, _BYTES = ir.IntType(64), ir.IntType(8).as_pointer()
_BODY = ir.FunctionType(ir.VoidType(), [_BYTES])
_PARALLEL = ir.FunctionType(ir.VoidType(), [_BODY.as_pointer(), _BYTES, ir.IntType(32), ir.IntType(32)])


def compiled(function: Callable[..., Any], *, fastmath: bool = True) -> Any:
    """Compiled when first called, without the interpreter's lock; kept on disk where a folder can be written.

    Without `fastmath`, arithmetic is as written: no reordering, and NaN and infinity count.
    """
    options = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    try:
        return njit(**options, cache=True)(function)
    except RuntimeError:  # neither beside the package nor in the user's cache
        return njit(**options)(function)


@no_type_check
@intrinsic
def in_team(context, team, run, count, arguments):
    """In compiled code: `run(0, *arguments)` to `run(count - 1, *arguments)`, each by whichever thread is free.

    Args:
        team: `qkv.team.team()`.
        run: a compiled function; what it returns is dropped.
        count: how often it is called.
        arguments: a tuple.
    """
    called = run.get_call_type(context, (types.int64, *arguments.types), {})

    @no_type_check
    def generate(context, builder, signature, values):
        (team, _, count, arguments), kinds = values, signature.args
        compiled_run = run.dispatcher.get_compile_result(called)
        context.add_linking_libs((compiled_run.library,))
        shared = cgutils.alloca_once(
            builder, ir.LiteralStructType([_INT, _INT, context.get_value_type(kinds[3])]), name="shared"
        )
        for place, value in enumerate((_INT(0), context.cast(builder, count, kinds[2], types.int64), arguments)):
            builder.store(value, cgutils.gep_inbounds(builder, shared, 0, place))

        body = ir.Function(builder.module, _BODY, builder.module.get_unique_name("in_team"))
        body.linkage = "internal"
        inside = ir.IRBuilder(body.append_basic_block())
        own = inside.bitcast(body.args[0], shared.type)
        following, many, given = (cgutils.gep_inbounds(inside, own, 0, place) for place in range(3))
        given = inside.load(given)
        calls, call, end = (body.append_basic_block(name) for name in ("calls", "call", "end"))
        inside.branch(calls)
        inside.position_at_end(calls)
        number = inside.atomic_rmw("add", following, _INT(1), "monotonic")
        inside.cbranch(inside.icmp_signed("<", number, inside.load(many)), call, end)
        inside.position_at_end(call)
        context.call_conv.call_function(
            inside,
            context.declare_function(builder.module, compiled_run.fndesc),
            called.return_type,
            called.args,
            [number, *cgutils.unpack_tuple(inside, given)],
        )
        inside.branch(calls)
        inside.position_at_end(end)
        inside.ret_void()

        parallel, threads = cgutils.unpack_tuple(builder, team)
        data = builder.bitcast(shared, _BYTES)
        alone = builder.icmp_signed("<=", threads, threads.type(1))
        with builder.if_else(alone) as (then, otherwise):
            with then:
                builder.call(body, [data])
            with otherwise:
                start = builder.inttoptr(parallel, _PARALLEL.as_pointer())
                builder.call(start, [body, data, builder.trunc(threads, ir.IntType(32)), ir.IntType(32)(0)])
        return context.get_dummy_value()

    return types.none(team, run, count, arguments), generate
