"""Collectives are found in HLO text wherever they stand, with their bytes and turns."""

from tl_jax.aot import hlo

TEXT = """\
HloModule jit_step, is_scheduled=true

%add.1 (x.1: f32[], y.1: f32[]) -> f32[] {
  %x.1 = f32[] parameter(0)
  %y.1 = f32[] parameter(1)
  ROOT %add.2 = f32[] add(%x.1, %y.1)
}

%all-reduce-scatter.7 (p.1: bf16[256,64]) -> bf16[64,64] {
  %p.1 = bf16[256,64]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.3 = bf16[256,64]{1,0:T(8,128)(2,1)} all-reduce(%p.1), channel_id=3, \
replica_groups=[4,4]<=[16], use_global_device_ids=true, to_apply=%add.1
  ROOT %slice.1 = bf16[64,64]{1,0} dynamic-slice(%all-reduce.3, %c.1), \
backend_config={"estimated_cycles":"7"}
}

%body.2 (t.1: (s32[], bf16[64,64])) -> (s32[], bf16[64,64]) {
  %t.1 = (s32[], bf16[64,64]{1,0:T(8,128)(2,1)}) parameter(0)
  %ag-start.1 = (bf16[64,64]{1,0:T(8,128)(2,1)}, bf16[256,64]{1,0:T(8,128)(2,1)S(1)}) \
all-gather-start(%w.1), channel_id=1, \
replica_groups=mesh['axis_0'=4,'axis_1'=4] {'axis_1'}, dimensions={0}
  %ag-done.1 = bf16[256,64]{1,0:T(8,128)(2,1)S(1)} all-gather-done(%ag-start.1)
  %fusion.9 = bf16[64,64]{1,0} fusion(%ag-done.1), kind=kCustom, \
calls=%all-reduce-scatter.7, backend_config={"estimated_cycles":"100"}
  ROOT %tuple.1 = (s32[], bf16[64,64]{1,0}) tuple(%i.1, %fusion.9)
}

%condition.2 (t.2: (s32[], bf16[64,64])) -> pred[] {
  %n.2 = s32[]{:T(128)} constant(6)
  ROOT %less.1 = pred[]{:T(512)} compare(%i.2, %n.2), direction=LT
}

ENTRY %main.1 (a.1: f32[8]) -> f32[8] {
  %while.1 = (s32[], bf16[64,64]{1,0}) while(%t.3), condition=%condition.2, body=%body.2
  %norm.1 = f32[] all-reduce(%sum.1), channel_id=8, replica_groups={{0,1,2,3}}, to_apply=%add.1
  %scatter.1 = (f32[4,2]{1,0}, f32[3]{0}) reduce-scatter(%g.1, %g.2), channel_id=9, \
replica_groups=[4,4]<=[16], dimensions={0}, to_apply=%add.1
  %add.9 = f32[8]{0} add(%a.1, %a.1), backend_config={"estimated_cycles":"5"}
  %permute.1 = (f32[10]{0}, f32[10]{0}, u32[], u32[]) collective-permute-start(%q.1), channel_id=10
  ROOT %out.1 = f32[8]{0} all-gather(%r.1), channel_id=11, replica_groups=[8,2]<=[16]
}
"""


def test_each_collective_is_found_with_its_kind_bytes_and_turns():
    found = {(one.kind, one.bytes): one for one in hlo.collectives(TEXT)}
    assert len(found) == 6
    gather = found["all-gather", 2 * 256 * 64]
    assert (gather.times, gather.in_loop, gather.group) == (6, True, 4)
    assert gather.wire_bytes == 2 * 256 * 64 * 3 / 4
    fused = found["reduce-scatter", 2 * 256 * 64]
    assert (fused.times, fused.in_loop, fused.wire_bytes) == (6, True, 2 * 256 * 64 * 3 / 4)
    norm = found["all-reduce", 4]
    assert (norm.times, norm.in_loop, norm.wire_bytes) == (1, False, 2 * 4 * 3 / 4)
    scatter = found["reduce-scatter", 4 * 11 * 4]
    assert (scatter.group, scatter.elements) == (4, 44)
    assert found["collective-permute", 40].wire_bytes == 40
    assert found["all-gather", 32].group == 2


def test_totals_count_every_turn_of_a_loop():
    table = hlo.totals(hlo.collectives(TEXT))
    assert table["all-gather"] == {"times": 7, "wire_bytes": 6 * 24576 + 16}
    assert table["reduce-scatter"] == {"times": 7, "wire_bytes": 6 * 24576 + 132}
    assert "all-to-all" not in table


def test_steps_of_one_collective_in_several_fusions_count_once():
    twice = TEXT.replace("channel_id=9,", "channel_id=11,")
    assert len(hlo.collectives(twice)) == 5


def test_collectives_of_one_channel_that_are_written_in_the_program_count_each():
    written = TEXT.replace("channel_id=9,", "channel_id=11,")
    for line in ("to_apply=%add.1\n  %add.9", "replica_groups=[8,2]<=[16]\n}"):
        name = 'metadata={op_name="jit(f)/while/shard_map/all_gather"}'
        written = written.replace(line, line.replace("\n", f", {name}\n"))
    assert len(hlo.collectives(written)) == 6
    spread = 'frontend_attributes={chain_id="2"}, metadata={'
    assert len(hlo.collectives(written.replace("metadata={", spread))) == 5


def test_cycles_count_turns_of_loops_and_not_the_inside_of_fusions():
    assert hlo.cycles(TEXT) == 6 * 100 + 5


def test_a_loop_without_a_constant_bound_counts_once():
    open_ended = TEXT.replace("constant(6)", "get-tuple-element(%t.2), index=1")
    assert hlo.totals(hlo.collectives(open_ended))["all-gather"]["times"] == 2


def test_branches_of_either_notation_count_as_taken():
    branch = """\
%{name} (p.1: f32[8]) -> f32[32] {{
  ROOT %gather.1 = f32[32]{{0}} all-gather(%p.1), channel_id=2, replica_groups=[1,4]<=[4]
}}

"""
    call = (
        "ENTRY %main.1 (a.1: f32[8]) -> f32[32] {{\n  ROOT %c.1 = f32[32]{{0}} conditional({}\n}}\n"
    )
    for branches in (
        "%p.2, %a.1, %a.1), true_computation=%yes.1, false_computation=%no.1",
        "%i.2, %a.1, %a.1), branch_computations={%no.1, %yes.1}",
    ):
        for name in ("yes.1", "no.1"):
            found = hlo.collectives(branch.format(name=name) + call.format(branches))
            assert [one.bytes for one in found] == [4 * 32]


def test_groups_of_a_mesh_whose_devices_are_in_another_order_are_read():
    text = """\
ENTRY %main.1 (a.1: f32[64]) -> f32[8] {
  ROOT %s.1 = f32[8]{0} reduce-scatter(%a.1), channel_id=1, \
replica_groups=mesh['axis_0'=8,'axis_1'=1,'axis_2'=4], device_ids=([4,8]T(1,0)) {'axis_0'}, \
use_global_device_ids=true, dimensions={0}, to_apply=%add.1
}
"""
    (found,) = hlo.collectives(text)
    assert (found.group, found.bytes, found.wire_bytes) == (8, 4 * 64, 4 * 64 * 7 / 8)
