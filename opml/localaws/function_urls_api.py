"""Lambda's operations on function URLs and on the permission to call them; `function_urls` answers the calls."""

import json

from moto.awslambda.exceptions import InvalidParameterValueException

from opml.localaws import function_urls
from opml.localaws.function_urls import FunctionUrl
from opml.localaws.provisioned_api import error

Answer = tuple[int, dict, str]
AUTH_TYPES = ("NONE", "AWS_IAM")


def described(url: FunctionUrl) -> dict:
    """The members that all answers have."""
    arn = url.backend.get_function(url.name).function_arn.removesuffix(":$LATEST")
    found = {
        "FunctionUrl": url.url, "FunctionArn": f"{arn}:{url.qualifier}" if url.qualifier else arn, "AuthType": url.auth,
        "CreationTime": url.created, "LastModifiedTime": url.modified, "InvokeMode": "BUFFERED",
    }  # fmt: skip
    return {**found, "Cors": url.cors} if url.cors else found


class UrlsMixin:
    """Stands before moto's LambdaResponse in `opml.localaws.lambda_api.Lambda`."""

    def create_function_url_config(self) -> Answer:
        """One URL for the function, one for each alias."""
        self.backend.get_function(self._name, self._qualifier)
        asked = self._url_request()
        if self._qualifier is not None and (self._qualifier == "$LATEST" or self._qualifier.isdigit()):
            raise InvalidParameterValueException("A function URL is for the function or for one of its aliases, not for a version.")
        if function_urls.find(self._name, self._qualifier) is not None:
            text = f"Failed to create function url config for [functionArn = {self._determine_resource()}]."
            return error("ResourceConflictException", 409, f"{text} Error message:  FunctionUrlConfig exists for this Lambda function")
        if asked.get("AuthType") is None:
            raise InvalidParameterValueException("AuthType is required: NONE or AWS_IAM.")
        made = FunctionUrl(self.backend, self._name, self._qualifier, asked["AuthType"], asked.get("Cors") or {})
        return 201, {"status": 201}, json.dumps(described(function_urls.add(made)))

    def get_function_url_config(self) -> Answer:
        """404 where there is none."""
        found = self._url()
        return self._no_url() if found is None else (200, {}, json.dumps(described(found)))

    def update_function_url_config(self) -> Answer:
        """AuthType and Cors."""
        found, asked = self._url(), self._url_request()
        if found is None:
            return self._no_url()
        found.auth, found.cors = asked.get("AuthType") or found.auth, asked.get("Cors", found.cors)
        found.modified = function_urls.stamp()
        return 200, {}, json.dumps(described(found))

    def delete_function_url_config(self) -> Answer:
        """From now on its address answers 403."""
        found = self._url()
        if found is None:
            return self._no_url()
        function_urls.remove(found)
        return 204, {"status": 204}, ""

    def list_function_url_configs(self) -> Answer:
        """Of one function."""
        self.backend.get_function(self._name)
        return 200, {}, json.dumps({"FunctionUrlConfigs": [described(url) for url in function_urls.of_function(self._name)]})

    def add_permission(self) -> str:
        """moto copies the two members about URLs as they are; in a policy they are conditions."""
        added = json.loads(json.loads(super().add_permission())["Statement"])
        statements = self.backend.get_function(self._asked, self._qualifier).policy.statements
        statement = next(one for one in reversed(statements) if one["Sid"] == added["Sid"])
        condition = statement.get("Condition") or {}
        if (kind := statement.pop("FunctionUrlAuthType", None)) is not None:
            condition.setdefault("StringEquals", {})["lambda:FunctionUrlAuthType"] = kind
        if (through := statement.pop("InvokedViaFunctionUrl", None)) is not None:
            condition["Bool"] = {"lambda:InvokedViaFunctionUrl": str(through).lower()}
        if condition:
            statement["Condition"] = condition
        return json.dumps({"Statement": json.dumps(statement)})

    def forget_urls(self, alias: str | None = None) -> None:
        """The function, or one alias of it, goes."""
        for url in function_urls.of_function(self._name):
            if alias in (None, url.qualifier):
                function_urls.remove(url)

    def _url(self) -> FunctionUrl | None:
        return function_urls.find(self._name, self._qualifier)

    def _no_url(self) -> Answer:
        return error("ResourceNotFoundException", 404, "The resource you requested does not exist.")

    def _url_request(self) -> dict:
        asked = json.loads(self.body or "{}")
        if asked.get("AuthType") not in (None, *AUTH_TYPES):
            raise InvalidParameterValueException(f"AuthType must be one of {', '.join(AUTH_TYPES)}, not {asked['AuthType']}.")
        if asked.get("InvokeMode") == "RESPONSE_STREAM":
            raise InvalidParameterValueException("The local AWS has no response streams yet: InvokeMode must be BUFFERED.")
        return asked
