import pytest

from advseg.platform.cluster.placement import check_ledger, concurrency_of
from advseg.platform.cluster.submit import KnownJob, choose_id
from advseg.platform.spec.spec import Resources
from advseg.trainers.errors import UserError


class TestLedger:
    ADDRESS = "postgresql://me@host/database"

    @pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["::1"], []])
    @pytest.mark.parametrize("ledger", [None, ADDRESS])
    def test_may_be_a_file_if_all_nodes_are_on_this_machine(self, ledger: str | None, addresses: list[str]) -> None:
        check_ledger(ledger, addresses)

    @pytest.mark.parametrize("addresses", [["10.0.0.5"], ["127.0.0.1", "10.0.0.5"], ["10.0.0.5", "10.0.0.6"]])
    def test_must_be_a_server_if_others_can_reach_a_node(self, addresses: list[str]) -> None:
        check_ledger(self.ADDRESS, addresses)
        with pytest.raises(UserError) as caught:
            check_ledger(None, addresses)
        assert str(caught.value) == (
            "the cluster has nodes that others can reach (10.0.0.5), but the spec names no ledger, and an SQLite file "
            "serves one machine only: add ledger: postgresql://user@host/database"
        )


class TestPlacement:
    @pytest.mark.parametrize(
        ("asked", "resources", "cluster", "fits"),
        [
            (2, {}, {"CPU": 8.0}, 2),
            (9, {}, {"CPU": 8.0}, 8),
            (9, {"workers": 3}, {"CPU": 8.0}, 2),
            (9, {"cpus_per_worker": 0.1}, {"CPU": 0.3}, 3),
            (9, {"gpus_per_worker": 1}, {"CPU": 64.0, "GPU": 4.0}, 4),
            (9, {"gpus_per_worker": 0.5, "workers": 2}, {"CPU": 64.0, "GPU": 4.0}, 4),
            (1, {"workers": 8}, {"CPU": 8.0}, 1),
        ],
    )
    def test_fits_what_the_scarcest_resource_allows(
        self, asked: int, resources: dict[str, float], cluster: dict[str, float], fits: int
    ) -> None:
        assert concurrency_of(asked, Resources.model_validate(resources), cluster) == fits

    @pytest.mark.parametrize(
        ("resources", "cluster", "message"),
        [
            (
                {"workers": 3},
                {"CPU": 2.0},
                "needs 3 CPU .3 x 1., but the cluster has 2: lower resources.cpus_per_worker",
            ),
            (
                {"gpus_per_worker": 1},
                {"CPU": 2.0},
                "needs 1 GPU .1 x 1., but the cluster has 0: lower resources.gpus_per_worker",
            ),
        ],
    )
    def test_refuses_what_never_fits(
        self, resources: dict[str, float], cluster: dict[str, float], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            concurrency_of(2, Resources.model_validate(resources), cluster)


def job(id: str, digest: str = "old", *, active: bool = False) -> KnownJob:
    return KnownJob(id=id, active=active, digest=digest)


class TestSubmissionId:
    def test_is_the_first_of_a_new_name(self) -> None:
        assert choose_id("probe", "d", []) == ("probe-1", True)

    def test_is_the_running_jobs_if_it_is_the_same(self) -> None:
        known = [job("probe-1"), job("probe-2", "d", active=True)]
        assert choose_id("probe", "d", known) == ("probe-2", False)

    def test_is_a_new_one_once_the_same_job_has_ended(self) -> None:
        assert choose_id("probe", "d", [job("probe-1", "d"), job("probe-10")]) == ("probe-11", True)

    def test_is_refused_while_another_job_of_the_name_runs(self) -> None:
        with pytest.raises(
            UserError, match=r"job probe-3 .* another spec: stop it by `advseg job stop probe-3` .*probe-2$"
        ):
            choose_id("probe", "d", [job("probe-3", "other", active=True)])

    def test_heeds_no_job_of_another_name(self) -> None:
        others = [job("probe-x-4", active=True), job("prob-5", active=True), job("", active=True), job("probe-a")]
        assert choose_id("probe", "d", others) == ("probe-1", True)
        assert choose_id("probe-x", "d", [job("probe-7")]) == ("probe-x-1", True)
