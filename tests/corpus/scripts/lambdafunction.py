"""The course's function: the event's address goes to the endpoint, the answer back as it is."""

import json
import os

import boto3

runtime = boto3.Session().client("sagemaker-runtime")


def lambda_handler(event, context):
    print("Context:::", context)
    answer = runtime.invoke_endpoint(
        EndpointName=os.environ["ENDPOINT_NAME"], ContentType="application/json", Accept="application/json", Body=json.dumps(event)
    )
    result = json.loads(answer["Body"].read().decode("utf-8"))
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "text/plain", "Access-Control-Allow-Origin": "*"},
        "type-result": str(type(result)),
        "COntent-Type-In": str(context),
        "body": json.dumps(result),
    }
