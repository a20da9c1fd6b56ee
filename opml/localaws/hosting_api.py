"""SageMaker's control operations on models, endpoint configurations and endpoints, with AWS's refusals; `hosting` does the work."""

import functools

import botocore.session
from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpointConfig

from opml.localaws import hosting
from opml.localaws.settings import settings


@functools.cache
def instance_types() -> tuple[str, ...]:
    """Instance types that may host, from the API's own model."""
    shape = botocore.session.get_session().get_service_model("sagemaker").shape_for("ProductionVariantInstanceType")
    return tuple(shape.enum)


def _validate_instance_type(self, instance_type: str) -> None:
    if instance_type not in instance_types():
        raise ValidationError(
            f"1 validation error detected: Value '{instance_type}' at 'productionVariants.1.member.instanceType' failed to satisfy "
            f"constraint: Member must satisfy enum value set: [{', '.join(instance_types())}]"
        )


def arn(kind: str, name: str) -> str:
    """The ARN of a SageMaker resource."""
    return f"arn:aws:sagemaker:{settings.region}:{settings.account}:{kind}/{name}"


def _require(found, words: str, kind: str, name: str):
    """``found``, or AWS's refusal if it is None."""
    if found is None:
        raise ValidationError(f'Could not find {words} "{arn(kind, name)}".')
    return found


def _refuse_second(store, words: str, kind: str, name: str) -> None:
    if name in store:
        raise ValidationError(f'Cannot create already existing {words} "{arn(kind, name)}".')


def without_empty(described: dict) -> dict:
    """The members that have a value: an empty ``DataCaptureConfig`` sent back by a client is refused by its own validation."""
    return {key: value for key, value in described.items() if value not in (None, "", {}, [])}


def _check_changes(wanted: list[dict], endpoint) -> None:
    names = [change["VariantName"] for change in wanted]
    known = {variant["VariantName"] for variant in endpoint.production_variants}
    for name in names:
        if names.count(name) > 1:
            raise ValidationError(f'The variant name "{name}" was non-unique within the request.')
        if name not in known:
            config = endpoint.endpoint_config_name
            raise ValidationError(f'The variant name(s) "{name}" is/are not present within endpoint configuration "{config}".')


class HostingMixin:
    """Stands before moto's SageMakerResponse in `opml.localaws.api.SageMaker`."""

    # ---- models -----------------------------------------------------------------------------------------------------------------

    def create_model(self) -> ActionResult:
        """Also refuses a second one of the name, and keeps EnableNetworkIsolation."""
        name = self._get_param("ModelName")
        _refuse_second(self.sagemaker_backend._models, "model", "model", name)
        result = super().create_model()
        self.sagemaker_backend._models[name].enable_network_isolation = bool(self._get_param("EnableNetworkIsolation"))
        return result

    def describe_model(self) -> ActionResult:
        """Without empty members."""
        name = self._get_param("ModelName")
        model = _require(self.sagemaker_backend._models.get(name), "model", "model", name)
        return ActionResult(without_empty(model.response_object))

    # ---- endpoint configurations ------------------------------------------------------------------------------------------------

    def create_endpoint_config(self) -> ActionResult:
        """Refuses a second one of the name, unknown models and serverless variants."""
        backend = self.sagemaker_backend
        _refuse_second(backend.endpoint_configs, "endpoint configuration", "endpoint-config", self._get_param("EndpointConfigName"))
        for variant in self._get_param("ProductionVariants"):
            _require(backend._models.get(variant["ModelName"]), "model", "model", variant["ModelName"])
            if "ServerlessConfig" in variant:
                raise ValidationError("The local AWS has no serverless endpoints yet: give InstanceType and InitialInstanceCount.")
        return super().create_endpoint_config()

    def describe_endpoint_config(self) -> ActionResult:
        """Without empty members."""
        return ActionResult(without_empty(self._config(self._get_param("EndpointConfigName")).response_object))

    def delete_endpoint_config(self) -> ActionResult:
        """A running endpoint does not need it any more."""
        self._config(self._get_param("EndpointConfigName"))
        return super().delete_endpoint_config()

    def _config(self, name: str):
        return _require(self.sagemaker_backend.endpoint_configs.get(name), "endpoint configuration", "endpoint-config", name)

    # ---- endpoints --------------------------------------------------------------------------------------------------------------

    def create_endpoint(self) -> ActionResult:
        """Answers at once; the processes start in the background."""
        name = self._get_param("EndpointName")
        _refuse_second(self.sagemaker_backend.endpoints, "endpoint", "endpoint", name)
        self._config(self._get_param("EndpointConfigName"))
        result = super().create_endpoint()
        hosting.create(self.sagemaker_backend, self._endpoint(name))
        return result

    def describe_endpoint(self) -> ActionResult:
        """Without empty members."""
        return ActionResult(without_empty(self._endpoint(self._get_param("EndpointName")).response_object))

    def delete_endpoint(self) -> ActionResult:
        """Answers when all processes have ended; allowed in every status."""
        name = self._get_param("EndpointName")
        self._endpoint(name)
        result = super().delete_endpoint()
        hosting.remove(name)
        return result

    def update_endpoint(self) -> ActionResult:
        """The simple form: a new fleet beside the old one, then instead of it."""
        endpoint = self._endpoint(self._get_param("EndpointName"))
        config = self._get_param("EndpointConfigName")
        self._config(config)
        if held := hosting.find(endpoint.endpoint_name).held(config):
            raise ValidationError(
                f'The variant "{held}" of endpoint "{endpoint.arn}" is registered with Application Auto Scaling: deregister it before '
                "it is removed or gets another instance type, and register it again afterwards."
            )
        retain = bool(self._get_param("RetainAllVariantProperties"))
        self._change(endpoint, lambda running: running.update(config, retain))
        return ActionResult({"EndpointArn": endpoint.arn})

    def update_endpoint_weights_and_capacities(self) -> ActionResult:
        """Desired at once, current when the processes have started or ended."""
        endpoint = self._endpoint(self._get_param("EndpointName"))
        wanted = self._get_param("DesiredWeightsAndCapacities")
        _check_changes(wanted, endpoint)
        self._change(endpoint, lambda running: running.resize(wanted))
        return ActionResult({"EndpointArn": endpoint.arn})

    def _endpoint(self, name: str):
        return _require(self.sagemaker_backend.endpoints.get(name), "endpoint", "endpoint", name)

    @staticmethod
    def _change(endpoint, change) -> None:
        try:
            change(hosting.find(endpoint.endpoint_name))
        except hosting.Busy:
            raise ValidationError(f'Cannot update in-progress endpoint "{endpoint.arn}".') from None

    # ---- tags -------------------------------------------------------------------------------------------------------------------

    def add_tags(self) -> ActionResult:
        """A key that is there already gets the new value."""
        resource = self._tagged()
        new = {tag["Key"]: tag for tag in self._get_param("Tags")}
        resource.tags = [*(tag for tag in resource.tags if tag["Key"] not in new), *new.values()]
        return ActionResult({"Tags": resource.tags})

    def list_tags(self) -> ActionResult:
        """Of anything that has an ARN, tagged or not."""
        self._tagged()
        return super().list_tags()

    def delete_tags(self) -> EmptyResult:
        """By key."""
        self._tagged()
        return super().delete_tags()

    def _tagged(self):
        """The resource of the request's ARN, whose tags may never have been set."""
        wanted = self._get_param("ResourceArn")
        try:
            resource = self.sagemaker_backend._get_resource_from_arn(wanted)
        except (AttributeError, ValueError):  # moto: an unknown kind of resource, or no ARN at all
            resource = None
        if resource is None:
            raise ValidationError(f"The request was rejected because the resource {wanted} does not exist.")
        resource.tags = resource.tags or []
        return resource


def install() -> None:
    """Let moto accept today's instance types: its own list ends before ml.g5 and ml.m6i."""
    FakeEndpointConfig.validate_instance_type = _validate_instance_type
