"""Tests of ``src/gradnas/ops/registry.py``."""

import pytest

from gradnas.arch import OpDesc
from gradnas.ops import OPS, ArchParams, CompositeFactory, Op, OpRegistry, PoolMeanTensor


def make_a(desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
    return PoolMeanTensor()


def make_b(desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
    return PoolMeanTensor()


def make_chain() -> tuple[OpRegistry, OpRegistry]:
    parent = OpRegistry()
    parent.register_op("a", make_a)
    return parent, OpRegistry(parent=parent)


def test_registered_factory_is_found() -> None:
    registry = OpRegistry()
    registry.register_op("a", make_a)
    assert registry.lookup("a") is make_a


def test_registering_the_same_factory_again_is_no_change() -> None:
    registry = OpRegistry()
    registry.register_op("a", make_a)
    registry.register_op("a", make_a)
    assert registry.names() == ["a"]


def test_bound_method_is_the_same_factory_each_time() -> None:
    class Space:
        def make(self, desc: OpDesc, affine: bool, arch_params: ArchParams | None) -> Op:
            return PoolMeanTensor()

    registry, space = OpRegistry(), Space()
    registry.register_op("a", space.make)
    registry.register_op("a", space.make)
    with pytest.raises(ValueError, match="registered already"):
        registry.register_op("a", space.make, exists_ok=False)
    with pytest.raises(ValueError, match="choose another name"):
        registry.register_op("a", Space().make)


def test_registering_again_can_be_forbidden() -> None:
    registry = OpRegistry()
    registry.register_op("a", make_a, exists_ok=False)
    with pytest.raises(ValueError, match="op 'a' is registered already"):
        registry.register_op("a", make_a, exists_ok=False)


def test_other_factory_under_a_taken_name_is_refused_naming_both() -> None:
    registry = OpRegistry()
    registry.register_op("a", make_a)
    with pytest.raises(ValueError, match=r"op 'a' is .*make_a.*, not .*make_b.*pass replace=True"):
        registry.register_op("a", make_b)
    assert registry.lookup("a") is make_a


def test_name_can_be_given_to_another_factory_on_request() -> None:
    registry = OpRegistry()
    registry.register_op("a", make_a)
    registry.register_op("a", make_b, replace=True)
    assert registry.lookup("a") is make_b


def test_child_finds_the_ops_of_its_parent() -> None:
    _, child = make_chain()
    assert child.lookup("a") is make_a


def test_child_sees_what_the_parent_learns_later() -> None:
    parent, child = make_chain()
    parent.register_op("late", make_b)
    assert child.lookup("late") is make_b


def test_child_does_not_change_its_parent() -> None:
    parent, child = make_chain()
    child.register_op("b", make_b)
    assert parent.names() == ["a"]
    with pytest.raises(KeyError, match="no operation 'b'"):
        parent.lookup("b")


def test_child_hides_an_op_of_its_parent_on_request_only() -> None:
    parent, child = make_chain()
    with pytest.raises(ValueError, match=r"op 'a' is .*make_a.*, not .*make_b"):
        child.register_op("a", make_b)
    child.register_op("a", make_b, replace=True)
    assert child.lookup("a") is make_b
    assert parent.lookup("a") is make_a


def test_names_of_the_parent_come_first_and_none_twice() -> None:
    parent, child = make_chain()
    child.register_op("b", make_b)
    child.register_op("a", make_b, replace=True)
    parent.register_op("c", make_b)
    assert child.names() == ["a", "c", "b"]


def test_unknown_name_suggests_the_nearest_of_the_whole_chain() -> None:
    child = OpRegistry(parent=OPS)
    child.register_op("my_op", make_a)
    with pytest.raises(KeyError, match=r"no operation 'sep_conv_9x9'\. Did you mean 'sep_conv_.x.'\? Known: .*my_op"):
        child.lookup("sep_conv_9x9")


def test_create_looks_into_the_registry_given() -> None:
    registry = OpRegistry()
    registry.register_op("a", make_a)
    assert isinstance(Op.create(OpDesc("a"), affine=True, registry=registry), PoolMeanTensor)
    with pytest.raises(KeyError, match="no operation 'a'"):
        Op.create(OpDesc("a"), affine=True)


def test_factories_get_the_arguments_of_create_in_order() -> None:
    calls: list[tuple[object, ...]] = []

    def simple(*arguments: object) -> Op:
        calls.append(arguments)
        return PoolMeanTensor()

    registry, arch = OpRegistry(), ArchParams.empty()
    registry.register_op("simple", simple)
    registry.register_op("composite", CompositeFactory(simple))
    for name in ("simple", "composite"):
        Op.create(OpDesc(name), False, arch, registry=registry)
    assert calls == [(OpDesc("simple"), False, arch), (OpDesc("composite"), False, arch, registry)]
